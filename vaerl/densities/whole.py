"""Normals over whole numbers: draws of a continuous law, rounded to the nearest integer.

    P(n) = Π_d Φ((n_d + ½ − μ_d) / σ_d) − Φ((n_d − ½ − μ_d) / σ_d)

Grid cells, counts and levels are such numbers. A density over the reals can shrink its spread at
them without limit, and its gradients of order 1/σ then dominate all others; a probability mass is
at most 1. (Discretised mixtures: Salimans et al. 2017, with logistic laws.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vaerl.densities.base import IntractableError
from vaerl.densities.noise import Noise, Shape
from vaerl.densities.normal import HALF_LOG_TWO_PI, DiagonalNormal, NormalMixture
from vaerl.densities.options import check_range

FAR_DOWN = -8.0  # where log Φ is its expansion to 1e-3
LEAST_LOG_SIGMA = -2.5
"""Smaller values gain nothing: the cell of the mean holds all but 1e-9 of the law."""


def log_sigma_range(bounds: Sequence[float], whole: bool) -> tuple[float, float]:
    """Checked `log_sigma_bounds`; over whole numbers the lower one is at least `LEAST_LOG_SIGMA`.

    >>> log_sigma_range((-7.0, 2.0), whole=True)
    (-2.5, 2.0)
    """
    low, high = check_range("log_sigma_bounds", bounds)
    if not whole:
        return low, high
    if high <= LEAST_LOG_SIGMA:
        raise ValueError(
            f"log_sigma_bounds: got {bounds!r} with whole=True, expected the upper one "
            f"above {LEAST_LOG_SIGMA}"
        )
    return max(low, LEAST_LOG_SIGMA), high


def log_cell_mass(distance: Tensor, precision: Tensor) -> Tensor:
    """log P(|y| − distance within ½) of y ~ N(0, 1/precision²), elementwise, in nats.

    With a = Φ((½ − d)/σ) and b = Φ(−(½ + d)/σ) it is log a + log(1 − b/a); a is at least b, and
    neither is ever the difference of two numbers near 1.

    >>> log_cell_mass(torch.tensor(0.0), torch.tensor(2.0)).exp()  # within one σ on either side
    tensor(0.6827)
    """
    far = _log_ndtr((-distance - 0.5) * precision)
    near = _log_ndtr((0.5 - distance) * precision)
    return near + torch.log1p(-torch.exp((far - near).clamp(max=-1e-7)))


def _log_ndtr(x: Tensor) -> Tensor:
    """log Φ(x), far down by its expansion: torch's gradient there is exp(x²/2 + …) in float32."""
    down = x < FAR_DOWN
    tail = torch.where(down, x, FAR_DOWN)
    series = -0.5 * tail.square() - torch.log(-tail) - HALF_LOG_TWO_PI - tail.square().reciprocal()
    return torch.where(down, series, torch.special.log_ndtr(x.clamp_min(FAR_DOWN)))


class WholeNormal(DiagonalNormal):
    """The nearest whole numbers to a draw of N(mean, diag(exp(log_sigma))²).

    >>> law = WholeNormal(torch.tensor([2.3]), torch.tensor([-2.0]))
    >>> law.at(torch.zeros(1)), law.log_prob(torch.tensor([2.0])).exp().round(decimals=3)
    (tensor([2.]), tensor(0.9300))
    """

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ_d log of the mass within ½ of x_d, in nats."""
        return log_cell_mass((x - self.mean).abs(), self._precision).sum(-1)

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        check_no_gradient(self.mean)
        return super().rsample(sample_shape, generator)

    def at(self, noise: Tensor) -> Tensor:
        """The whole numbers that a given noise maps to."""
        return super().at(noise).round()

    def equal_mixture(self) -> WholeMixture:
        mixture = super().equal_mixture()
        return WholeMixture(mixture.log_weights, mixture.mean, mixture.log_sigma)

    def detach(self) -> WholeNormal:
        return WholeNormal(self.mean.detach(), self.log_sigma.detach())

    def entropy(self) -> Tensor:
        raise IntractableError("entropy() of whole numbers has no closed form; use entropy_bounds")

    def moments(self) -> tuple[Tensor, Tensor]:
        raise IntractableError("moments of whole numbers have no closed form; use samples")


class WholeMixture(NormalMixture):
    """The nearest whole numbers to a draw of a mixture of normals."""

    @property
    def places(self) -> Tensor:
        return self.mean.round()

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        check_no_gradient(self.mean)
        return super().rsample(sample_shape, generator)

    def place(self, u: Tensor, noise: Tensor) -> Tensor:
        """The whole numbers that a uniform u and a given noise map to."""
        return super().place(u, noise).round()

    def moments(self) -> tuple[Tensor, Tensor]:
        raise IntractableError("moments of whole numbers have no closed form; use samples")

    def _log_normals(
        self, x: Tensor, mean: Tensor, log_sigma: Tensor, precision: Tensor, dim: int
    ) -> Tensor:
        return log_cell_mass((x - mean).abs(), precision).sum(dim)


def check_no_gradient(parameter: Tensor) -> None:
    """Raise IntractableError if a draw would need a gradient."""
    if torch.is_grad_enabled() and parameter.requires_grad:
        raise IntractableError(
            "rsample: whole numbers have no pathwise gradient; "
            "call sample(), or draw under torch.no_grad()"
        )
