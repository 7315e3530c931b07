"""The CVAE that draws a character after an example: p(x | e), where e is another person's drawing.

    p(z | e) = N(μ, diag σ²), linear in [g(e), w ∗ e]
    p(x | z, e) = Bernoulli(σ(f(z, g(e)) + w ∗ e)), f: 200 → 200 → 784, w a filter of 9 × 9 pixels
    q(z | x, e): [x, g'(e)] → 200 → 200 → (μ, log σ) of 50;  g, g': 784 → 200 → 100

Sizes and tanh layers are those of the one-layer network of `vaerl.experiments.iwae.networks`. g is
the context network of p and g' that of q. The filter says that ink is likely near the example's, so
that the other networks have only to learn how people differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaerl.densities.bernoulli import Bernoulli
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import GaussianPrior
from vaerl.experiments.captions.rivals import ConditionedLayer, normal
from vaerl.experiments.characters.data import SIDE
from vaerl.experiments.iwae.mnist import PIXELS
from vaerl.experiments.iwae.networks import HIDDEN, LATENTS, start_as_published
from vaerl.nets import mlp

EXAMPLE = 100
"""Size of the embedding of an example."""
REACH = 9
"""Side of the filter w in pixels."""


class Embedded(nn.Module):
    """Examples ``(n, 784)`` → [g(e), w ∗ e]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(PIXELS, (HIDDEN[0], EXAMPLE), activation="tanh")
        self.near = nn.Conv2d(1, 1, REACH, padding=REACH // 2, bias=False)

    def forward(self, example: Tensor) -> Tensor:
        """One row each."""
        near = self.near(example.reshape(-1, 1, SIDE, SIDE)).flatten(1)
        return torch.cat([self.net(example), near], dim=-1)


class Tracing(nn.Module):
    """Rows [z, g(e), w ∗ e] → logits ``(n, 784)``."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.net = mlp(latent + EXAMPLE, (HIDDEN[0], HIDDEN[0]), PIXELS, "tanh")

    def forward(self, joined: Tensor) -> Tensor:
        """One row each."""
        return self.net(joined[:, :-PIXELS]) + joined[:, -PIXELS:]


def build_pupil(objective: str, k: int, mean_image: Tensor, seed: int) -> CVAE:
    """The untrained density p(x | e) of images ``(n, 784)`` after grey examples ``(n, 784)``."""
    (latent,), wide = LATENTS[1], HIDDEN[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = Tracing(latent)
        encoder = mlp(PIXELS + EXAMPLE, (wide, wide), 2 * latent, "tanh")
        chain = LatentChain(
            GaussianPrior(EXAMPLE + PIXELS, latent),
            [ConditionedLayer(pixels, Bernoulli)],
            [ConditionedLayer(encoder, normal)],
            Embedded(),
            mlp(PIXELS, (wide, EXAMPLE), activation="tanh"),
        )
        start_as_published(chain, pixels.net, mean_image)
    return CVAE.from_chain(
        chain,
        context_dim=PIXELS,
        event_dim=PIXELS,
        latent_dims=(latent,),
        objective=objective,
        k=k,
        defensive=0.0,
    )
