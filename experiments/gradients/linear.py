"""The linear-Gaussian chain on which gradients are known: every draw has its own parameters.

    h_2 ~ N(0, 1);  h_1 | h_2 ~ N(h_2, 1);  x | h_1 ~ N(h_1, 1)
    q(h_1 | x) = N(a x + b, e^{2 s1});  q(h_2 | h_1) = N(g h_1 + d, e^{2 s2})

The parameters of q are repeated once a draw, so that one backward pass of the core's own loss gives
the estimate of every draw by itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import StandardPrior
from vaerl.densities.normal import DiagonalNormal
from vaerl.experiments.gradients.estimators import surrogate

X = 1.5
ENCODER = {"a": 0.3, "b": 0.2, "s1": -0.1, "g": 0.4, "d": -0.1, "s2": 0.1}
"""The point at which gradients are taken."""
NAMES = ("a", "s1", "g", "s2")
"""Parameters that are reported."""


class LinearLayer(nn.Module):
    """child | parent ~ N(weight · parent + bias, exp(2 log_sigma)), parameters ``(draws, 1)``."""

    child_dim = 1

    def __init__(self, weight: float, bias: float, log_sigma: float, draws: int) -> None:
        super().__init__()
        self.weight, self.bias, self.log_sigma = (
            nn.Parameter(torch.full((draws, 1), value, dtype=torch.float64))
            for value in (weight, bias, log_sigma)
        )

    def condition(self, context: Tensor) -> None:
        """Nothing: the model has no context."""

    def forward(self, parent: Tensor, conditioning: None) -> DiagonalNormal:
        """The child's law for each parent sample."""
        mean = self.weight * parent + self.bias
        return DiagonalNormal(mean, self.log_sigma.expand_as(mean))


def linear_density(draws: int) -> CVAE:
    """The chain as a density, its encoder at `ENCODER`."""
    e = ENCODER
    chain = LatentChain(
        StandardPrior(1, 1),
        [LinearLayer(1.0, 0.0, 0.0, draws) for _ in range(2)],
        [
            LinearLayer(e["a"], e["b"], e["s1"], draws),
            LinearLayer(e["g"], e["d"], e["s2"], draws),
        ],
    )
    return CVAE.from_chain(chain, context_dim=1, event_dim=1, latent_dims=(1, 1), defensive=0.0)


def linear_draws(name: str, k: int, draws: int, generator: torch.Generator) -> Tensor:
    """`draws` independent estimates of the gradient in `NAMES`: ``(draws, 4)``."""
    density = linear_density(draws)
    rows = torch.full((draws, 1), X, dtype=torch.float64)
    value = surrogate(density, name, k, torch.zeros_like(rows), rows, generator)
    named = dict(density.chain.recognition.named_parameters())
    parameters = [named[f"{l}.{name}"] for l in (0, 1) for name in ("weight", "log_sigma")]
    return torch.cat(torch.autograd.grad(value.sum(), parameters), dim=1)


def exact_elbo() -> tuple[float, dict[str, float]]:
    """The ELBO at `ENCODER` in closed form, and its gradient.

    ELBO = log p(x) − KL(q_1 ‖ p_1) − E_{q_1} KL(q_2 ‖ p_2) with p_1 = N(2x/3, 2/3) and
    p_2 = N(h_1/2, 1/2), the exact posterior.
    """
    values = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in ENCODER.items()
    }
    a, b, s1, g, d, s2 = values.values()
    mean, variance = a * X + b, torch.exp(2.0 * s1)
    log_p = -0.5 * (X * X / 3.0 + math.log(2.0 * math.pi * 3.0))
    first = 0.5 * (
        math.log(2.0 / 3.0) - 2.0 * s1 + (variance + (mean - 2.0 * X / 3.0) ** 2) * 1.5 - 1.0
    )
    miss = ((g - 0.5) * mean + d) ** 2 + (g - 0.5) ** 2 * variance
    second = 0.5 * (math.log(0.5) - 2.0 * s2 + (torch.exp(2.0 * s2) + miss) * 2.0 - 1.0)
    elbo = log_p - first - second
    gradient = torch.autograd.grad(elbo, list(values.values()))
    return elbo.item(), dict(zip(values, (g.item() for g in gradient), strict=True))
