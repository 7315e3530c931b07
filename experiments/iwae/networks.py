"""The networks of Burda, Grosse & Salakhutdinov (2016) as a CVAE over a constant context.

    one layer   q(h1|x) 784-200-200-(50)                            p(x|h1) 50-200-200-784
    two layers  q(h1|x) 784-200-200-(100), q(h2|h1) 100-100-100-(50)
                p(h1|h2) 50-100-100-(100), p(x|h1) 100-200-200-784

Deterministic layers are tanh, (n) is a mean and a log σ of n units with σ = exp(linear), the prior
of the top layer is N(0, I). Bounds and gradients are those of `vaerl.densities.CVAE`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaerl.densities.bernoulli import BernoulliLayer
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import StandardPrior
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.iwae.mnist import PIXELS
from vaerl.nets import mlp

LATENTS = {1: (50,), 2: (100, 50)}
"""Sizes of the stochastic layers, h_1 first, by their number."""
HIDDEN = (200, 100)
"""Width of the two tanh layers between x and h_1, and between h_1 and h_2."""


class TanhLayer(nn.Module):
    """p(child | parent) = N(μ, diag σ²) from two tanh layers, σ = exp(linear), without context.

    The mean and log σ are read in the parent's precision, also where the network ran in a lower
    one.
    """

    def __init__(self, parent_dim: int, hidden: int, child_dim: int) -> None:
        super().__init__()
        self.net = mlp(parent_dim, (hidden, hidden), 2 * child_dim, activation="tanh")
        self.child_dim = child_dim

    def condition(self, context: Tensor) -> None:
        """Return None: the layer ignores the context."""

    def forward(self, parent: Tensor, conditioning: None) -> DiagonalNormal:
        """The child's law for each parent sample."""
        mean, log_sigma = self.net(parent).to(parent.dtype).split(self.child_dim, dim=-1)
        return DiagonalNormal(mean, log_sigma)


def build_density(layers: int, objective: str, k: int, mean_image: Tensor, seed: int) -> CVAE:
    """The untrained model: Glorot-uniform weights, zero biases, pixels biased to their mean.

    Args:
        layers: stochastic layers, 1 or 2.
        objective: "vae-k" or "iwae-k".
        k: importance samples.
        mean_image: mean training image (784,), grey levels in [0, 1].
        seed: of the weights.
    """
    sizes = (PIXELS, *LATENTS[layers])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = mlp(sizes[1], (HIDDEN[0], HIDDEN[0]), PIXELS, activation="tanh")
        generative: list[nn.Module] = [BernoulliLayer(pixels, PIXELS)]
        recognition: list[nn.Module] = [TanhLayer(PIXELS, HIDDEN[0], sizes[1])]
        for below, above, hidden in zip(sizes[1:], sizes[2:], HIDDEN[1:], strict=False):
            generative.append(TanhLayer(above, hidden, below))
            recognition.append(TanhLayer(below, hidden, above))
        chain = LatentChain(StandardPrior(1, sizes[-1]), generative, recognition)
        start_as_published(chain, pixels, mean_image)
    return CVAE.from_chain(
        chain,
        context_dim=1,
        event_dim=PIXELS,
        latent_dims=LATENTS[layers],
        objective=objective,
        k=k,
        encoder_gradient="dreg",
        defensive=0.0,
    )


@torch.no_grad()
def start_as_published(chain: nn.Module, pixels: nn.Sequential, mean_image: Tensor) -> None:
    """Glorot-uniform weights, zero biases, and as last biases of `pixels` the mean image."""
    for part in chain.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    bias = [part for part in pixels if isinstance(part, nn.Linear)][-1].bias
    bias.copy_(torch.logit(mean_image.clamp(0.001, 0.999)))


def nothing(count: int, device: torch.device | None = None) -> Tensor:
    """The constant context of an unconditional density, ``(count, 1)``."""
    return torch.zeros(count, 1, device=device)
