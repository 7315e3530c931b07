"""The CVAE that draws a character after an example: p(x | e), where e is another person's drawing.

    p(z | e) = N(μ, diag σ²), linear in g(e)
    p(x | z, e) = Bernoulli(σ(pen(e(u + A [u, 1] + Σ_i B_i(u) d_i)))) at each pixel u
    q(z | x, e): convolutions over the pages x and e

People draw the same strokes elsewhere, larger, slanted and bent, and with another pen. So the
decoder only says how the example is bent and what pen draws it: from [z, g(e)] a network gives the
linear map A, the displacements d of `NODES` × `NODES` nodes, spread to all pixels by bicubic
interpolation B, and the weights of the pen, a network over the bent example and its blurs at the
same place. g has convolutions; q shares nothing with p.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import GaussianPrior
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.captions.rivals import ConditionedLayer, normal
from vaerl.experiments.characters.data import SIDE, blurred
from vaerl.experiments.iwae.mnist import PIXELS
from vaerl.nets import mlp

LATENT = 24
EXAMPLE = 32
"""Size of the embedding g(e)."""
WIDTH = 128
NODES = 5
"""In each direction, of the net that bends a page."""
BLURS = (1.0, 2.0)
"""σ of the blurs that the pen sees beside the ink, in pixels."""
PEN = 8
"""Hidden units of the pen."""


def _see(pages: int, first: int, second: int) -> nn.Sequential:
    """Convolutions over pages ``(n, pages, 28, 28)`` → ``(n, 49 · second)``."""
    return nn.Sequential(
        nn.Conv2d(pages, first, 5, 2, 2), nn.ReLU(), nn.Conv2d(first, second, 5, 2, 2), nn.ReLU(),
        nn.Flatten(),
    )  # fmt: skip


class Embedded(nn.Module):
    """Examples ``(n, 784)`` → [g(e), e, blurs of e]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(_see(1, 8, 16), nn.Linear(16 * 49, EXAMPLE), nn.Tanh())

    def forward(self, example: Tensor) -> Tensor:
        """One row each."""
        seen = self.net(example.reshape(-1, 1, SIDE, SIDE))
        return torch.cat([seen, example, *(blurred(example, blur) for blur in BLURS)], dim=-1)


class EmbeddingPrior(GaussianPrior):
    """The prior from g(e) alone."""

    def forward(self, context: Tensor) -> DiagonalNormal:
        """At each context [g(e), …]."""
        return super().forward(context[..., :EXAMPLE])


class Compared(nn.Module):
    """Rows [x, e] → parameters of q(z | x, e)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(_see(2, 16, 32), *mlp(32 * 49, (WIDTH,), 2 * LATENT, "relu"))

    def forward(self, joined: Tensor) -> Tensor:
        """One row each."""
        return self.net(joined.reshape(-1, 2, SIDE, SIDE))


class Bending(nn.Module):
    """Rows [z, g(e), e, blurs of e] → logits ``(n, 784)``, at the start of a page bent little.

    Args:
        ink: share of inked pixels at the start.
    """

    grid: Tensor
    spread: Tensor

    def __init__(self, ink: Tensor) -> None:
        super().__init__()
        seen = 1 + len(BLURS)
        self.sizes = [4, 2, 2 * NODES**2, PEN * seen, PEN, PEN, 1]
        self.net = mlp(LATENT + EXAMPLE, (WIDTH,), sum(self.sizes), "tanh")
        last = self.net[-1]
        assert isinstance(last, nn.Linear), last
        pen = 0.5 * torch.randn(sum(self.sizes[3:]))
        pen[-1] = torch.logit(ink)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()[-len(pen) :] = pen
        axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
        page = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
        nodes = torch.eye(NODES**2).reshape(-1, 1, NODES, NODES)
        spread = functional.interpolate(nodes, (SIDE, SIDE), mode="bicubic", align_corners=True)
        self.register_buffer("grid", page.reshape(PIXELS, 2), persistent=False)
        self.register_buffer("spread", spread.reshape(NODES**2, PIXELS), persistent=False)

    def forward(self, joined: Tensor) -> Tensor:
        """One row each."""
        known, pages = joined.split([LATENT + EXAMPLE, PIXELS * (1 + len(BLURS))], dim=-1)
        n, pages = len(joined), pages.reshape(len(joined), -1, SIDE, SIDE)
        linear, shift, nodes, *pen = self.net(known).split(self.sizes, dim=-1)
        away = (nodes.reshape(n, 2, -1) @ self.spread).transpose(1, 2) + shift[:, None]
        places = self.grid + self.grid @ linear.reshape(n, 2, 2).transpose(1, 2) + away
        bent = functional.grid_sample(
            pages, places.reshape(n, SIDE, SIDE, 2), align_corners=False
        ).flatten(2)
        into, bias, out, rest = pen
        hidden = torch.baddbmm(bias[:, :, None], into.reshape(n, PEN, -1), bent).relu()
        return torch.baddbmm(rest[:, :, None], out[:, None], hidden)[:, 0]


def build_pupil(objective: str, k: int, mean_image: Tensor, seed: int) -> CVAE:
    """The untrained density p(x | e) of images ``(n, 784)`` after grey examples ``(n, 784)``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chain = LatentChain(
            EmbeddingPrior(EXAMPLE, LATENT),
            [ConditionedLayer(Bending(mean_image.mean()), Bernoulli)],
            [ConditionedLayer(Compared(), normal)],
            Embedded(),
        )
    return CVAE.from_chain(
        chain,
        context_dim=PIXELS,
        event_dim=PIXELS,
        latent_dims=(LATENT,),
        objective=objective,
        k=k,
        defensive=0.0,
    )
