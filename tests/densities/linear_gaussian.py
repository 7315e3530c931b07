"""A linear-Gaussian chain of any depth, whose marginal, posterior and ELBO are known in closed
form.

h_L | c ~ N(w_L c + b_L, t_L);   h_l | h_{l+1}, c ~ N(w_l h_{l+1} + g_l c + b_l, t_l);   x = h_0
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.normal import DiagonalNormal


class LinearLayer(nn.Module):
    """child | parent, c ~ N(weight · parent + gain · c + bias, exp(2 log_sigma)), all scalars."""

    child_dim = 1

    def __init__(self, weight: float, gain: float, bias: float, log_sigma: float) -> None:
        super().__init__()
        for name, value in (
            ("weight", weight),
            ("gain", gain),
            ("bias", bias),
            ("log_sigma", log_sigma),
        ):
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))

    def condition(self, context: Tensor) -> Tensor:
        return self.gain * context + self.bias

    def forward(self, parent: Tensor, conditioning: Tensor) -> DiagonalNormal:
        mean = self.weight * parent + conditioning
        return DiagonalNormal(mean, self.log_sigma.expand_as(mean))


class LinearPrior(nn.Module):
    """h_L | c ~ N(weight · c + bias, exp(2 log_sigma))."""

    def __init__(self, weight: float, bias: float, log_sigma: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))
        self.log_sigma = nn.Parameter(torch.tensor(log_sigma, dtype=torch.float64))

    def forward(self, context: Tensor) -> DiagonalNormal:
        mean = self.weight * context + self.bias
        return DiagonalNormal(mean, self.log_sigma.expand_as(mean))


@dataclass(frozen=True)
class Chain:
    """Parameters from x upward: weights, gains and variances of the L layers, then the prior's
    alpha, beta, t."""

    weights: tuple[float, ...]
    gains: tuple[float, ...]
    variances: tuple[float, ...]
    alpha: float
    beta: float
    top_variance: float

    @property
    def depth(self) -> int:
        return len(self.weights)

    def means(self, c: float) -> list[float]:
        """Marginal means of h_0 = x, h_1, …, h_L given c."""
        means = [self.alpha * c + self.beta]
        for w, g in zip(reversed(self.weights), reversed(self.gains), strict=True):
            means.insert(0, w * means[0] + g * c)
        return means

    def spreads(self) -> list[float]:
        """Marginal variances of h_0 = x, h_1, …, h_L."""
        spreads = [self.top_variance]
        for w, t in zip(reversed(self.weights), reversed(self.variances), strict=True):
            spreads.insert(0, w * w * spreads[0] + t)
        return spreads

    def log_prob(self, x: float, c: float) -> float:
        mean, variance = self.means(c)[0], self.spreads()[0]
        normal = torch.distributions.Normal(
            torch.tensor(mean, dtype=torch.float64), variance**0.5, validate_args=False
        )
        return normal.log_prob(torch.tensor(x, dtype=torch.float64)).item()

    def posterior_layers(self) -> list[LinearLayer]:
        """The exact q(h_{l+1} | h_l, c), affine in c."""
        at_zero, at_one, spreads = self.means(0.0), self.means(1.0), self.spreads()
        layers = []
        for l in range(self.depth):
            slope = self.weights[l] * spreads[l + 1] / spreads[l]
            variance = spreads[l + 1] * self.variances[l] / spreads[l]
            bias = at_zero[l + 1] - slope * at_zero[l]
            gain = at_one[l + 1] - slope * at_one[l] - bias
            layers.append(LinearLayer(slope, gain, bias, 0.5 * torch.tensor(variance).log().item()))
            with torch.no_grad():
                layers[-1].log_sigma.copy_(0.5 * torch.tensor(variance, dtype=torch.float64).log())
        return layers

    def density(self, recognition: list[LinearLayer] | None = None, **options: object) -> CVAE:
        """The chain as a CVAE, with the exact posterior unless another recognition network is
        given."""
        generative = []
        for w, g, t in zip(self.weights, self.gains, self.variances, strict=True):
            generative.append(LinearLayer(w, g, 0.0, 0.0))
            with torch.no_grad():
                generative[-1].log_sigma.copy_(0.5 * torch.tensor(t, dtype=torch.float64).log())
        prior = LinearPrior(self.alpha, self.beta, 0.0)
        with torch.no_grad():
            prior.log_sigma.copy_(0.5 * torch.tensor(self.top_variance, dtype=torch.float64).log())
        chain = LatentChain(prior, generative, recognition or self.posterior_layers())
        return CVAE.from_chain(
            chain, context_dim=1, event_dim=1, latent_dims=(1,) * self.depth, **options
        )


CHECK_1 = Chain((0.8, 1.3), (0.2, 0.5), (0.4, 0.9), 0.7, -0.4, 0.6)


CHECK_2 = Chain((1.0, 1.0), (0.0, 0.0), (1.0, 1.0), 0.0, 0.0, 1.0)

BY_DEPTH = {
    1: Chain((0.9,), (0.3,), (0.5,), 0.7, -0.4, 0.8),
    2: CHECK_1,
    3: Chain((0.8, 1.3, -0.7), (0.2, 0.5, 0.1), (0.4, 0.9, 0.5), 0.7, -0.4, 0.6),
}


def check_2_recognition() -> list[LinearLayer]:
    """The recognition network of check 2: a .3, b .2, s1 −.1; g .4, d −.1, s2 .1."""
    return [LinearLayer(0.3, 0.0, 0.2, -0.1), LinearLayer(0.4, 0.0, -0.1, 0.1)]


def rows(value: float, count: int) -> Tensor:
    return torch.full((count, 1), value, dtype=torch.float64)
