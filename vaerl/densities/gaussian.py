"""The diagonal Gaussian density: the classical policy head, and the baseline to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaerl.densities.base import ConditionalDensity, ConditionalValue
from vaerl.densities.noise import Shape
from vaerl.densities.normal import DiagonalNormal
from vaerl.densities.options import check_choice, check_positive, check_sizes
from vaerl.densities.whole import WholeNormal, log_sigma_range
from vaerl.nets import mlp, smooth_range

MEANS = ("linear", "deep")
VARIANCES = ("fixed", "state-independent", "predicted")


class GaussianValue(ConditionalValue):
    """N(μ(c), diag σ(c)²) at given contexts."""

    def __init__(self, normal: DiagonalNormal) -> None:
        super().__init__(normal.mean.shape[:-1], normal.mean.shape[-1])
        self.normal = normal

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        return self.normal.rsample(sample_shape, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.normal.log_prob(self._check_event(x))

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """The mean, to the nearest whole numbers if they are: the exact mode, whatever n."""
        check_positive("n", n)
        return self.normal.at(torch.zeros_like(self.normal.mean))

    def entropy(self) -> Tensor:
        """Σ_d log σ_d + ½ log 2πe, exact."""
        return self.normal.entropy()

    @property
    def mean(self) -> Tensor:
        """E[x | c], ``batch + (X,)``."""
        return self.normal.moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of each dimension, ``batch + (X,)``."""
        return self.normal.moments()[1].square()


class Gaussian(ConditionalDensity):
    """Diagonal Gaussian with a linear or deep mean, as in the classical policy-gradient lectures.

    Args:
        mean: "linear", μ(c) = W c + b, or "deep", a network over c.
        variance: "fixed" at `sigma`, "state-independent" (one learned log σ a dimension) or
            "predicted" from c.
        sigma: standard deviation where it is fixed, and at the start where it is learned.
        hidden: widths of the deep network.
        log_sigma_bounds: range of log σ where it is learned, in nats.
        whole: events are whole numbers (`vaerl.densities.whole`).

    >>> from vaerl.densities import make_density
    >>> density = make_density("gaussian", context_dim=3, event_dim=2, variance="fixed")
    >>> density(torch.zeros(5, 3)).entropy().shape
    torch.Size([5])
    """

    name: ClassVar[str] = "gaussian"
    sigma_offset: Tensor

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        mean: str = "deep",
        variance: str = "predicted",
        sigma: float = 1.0,
        hidden: Sequence[int] = (64, 64),
        log_sigma_bounds: tuple[float, float] = (-7.0, 2.0),
        whole: bool = False,
        squash: bool = False,
    ) -> None:
        super().__init__(context_dim, event_dim, squash=squash, whole=whole)
        self.mean_kind = check_choice("mean", mean, MEANS)
        self.variance_kind = check_choice("variance", variance, VARIANCES)
        self.log_sigma_bounds = log_sigma_range(log_sigma_bounds, whole)
        if not (isinstance(sigma, (int, float)) and 0.0 < sigma < math.inf):
            raise ValueError(f"sigma: got {sigma!r}, expected a positive finite number")
        low, high = self.log_sigma_bounds
        if variance != "fixed" and not low < math.log(sigma) < high:
            raise ValueError(
                f"sigma: got {sigma!r}, expected log sigma inside "
                f"log_sigma_bounds {self.log_sigma_bounds}"
            )
        widths = check_sizes("hidden", hidden) if mean == "deep" else ()
        width = widths[-1] if widths else context_dim
        self.trunk = mlp(context_dim, widths)
        self.mean_head = nn.Linear(width, event_dim)
        if variance == "fixed":
            self.register_buffer("sigma_offset", torch.full((event_dim,), math.log(sigma)))
        else:
            start = _inverse_smooth_range(math.log(sigma), low, high)
            self.sigma_offset = nn.Parameter(torch.full((event_dim,), start))
        self.sigma_head = (
            nn.Linear(width, event_dim, bias=False) if variance == "predicted" else None
        )

    def _value(self, context: Tensor) -> GaussianValue:
        features = self.trunk(context)
        mean = self.mean_head(features)
        raw = self.sigma_offset
        if self.sigma_head is not None:
            raw = raw + self.sigma_head(features)
        if self.variance_kind == "fixed":
            log_sigma = raw
        else:
            log_sigma = smooth_range(raw, *self.log_sigma_bounds)
        law = WholeNormal if self.whole else DiagonalNormal
        return GaussianValue(law(mean, log_sigma.expand_as(mean)))


def _inverse_smooth_range(value: float, low: float, high: float) -> float:
    """The raw number that `smooth_range` maps to `value`, by bisection on its monotone curve."""
    below, above = -100.0, 100.0
    for _ in range(80):
        middle = 0.5 * (below + above)
        raw = torch.tensor(middle, dtype=torch.float64)
        if smooth_range(raw, low, high).item() < value:
            below = middle
        else:
            above = middle
    return 0.5 * (below + above)
