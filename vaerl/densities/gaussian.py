"""The diagonal Gaussian density: the classical policy head, and the baseline to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vaerl.densities.base import ConditionalDensity, Folded, Standardise
from vaerl.densities.fold import Affine, FoldedDensity, NormalHead, fold_stack, side_by_side
from vaerl.densities.kernel import Kernel
from vaerl.densities.normal import DiagonalNormal, GaussianValue
from vaerl.densities.options import check_above_zero, check_choice, check_sizes
from vaerl.densities.whole import WholeNormal, log_sigma_range
from vaerl.nets import mlp, smooth_range, smooth_range_terms

MEANS = ("linear", "deep")
VARIANCES = ("fixed", "state-independent", "predicted")


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

    name = "gaussian"
    sample_mean_kind = "mean"
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {"mean": "linear", "variance": "predicted", "log_sigma_bounds": (-5.0, 2.0)},
        # on-policy it is SB3's
        "on": {"mean": "linear", "variance": "state-independent", "log_sigma_bounds": (-5.0, 2.0)},
        "chunk": {"mean": "linear", "variance": "predicted", "log_sigma_bounds": (-5.0, 2.0)},
    }
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
    ) -> None:
        super().__init__(context_dim, event_dim, whole=whole)
        self.mean_kind = check_choice("mean", mean, MEANS)
        self.variance_kind = check_choice("variance", variance, VARIANCES)
        self.log_sigma_bounds = log_sigma_range(log_sigma_bounds, whole)
        check_above_zero("sigma", sigma)
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

    @classmethod
    def start_options(cls, log_sigma: float) -> dict[str, Any]:
        return {"sigma": math.exp(log_sigma)}

    @property
    def mean_layer(self) -> nn.Module:
        return self.mean_head

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """The fast form, where log σ is learned and events are real numbers."""
        steps = fold_stack(self.trunk)
        if steps is None or self.variance_kind == "fixed" or self.whole:
            return None
        mean: Any = self.mean_head
        slopes = (
            torch.zeros_like(mean.weight) if self.sigma_head is None else self.sigma_head.weight
        )
        head = side_by_side([Affine.of(mean), Affine(slopes, self.sigma_offset)])
        normal = NormalHead(self.event_dim, head, self.log_sigma_bounds)
        return FoldedDensity(steps, normal, (), inputs, targets)

    def kernel(self) -> Kernel | None:
        """One component, where mean and log σ are linear in the context."""
        if type(self) is not Gaussian or len(self.trunk) or self.sigma_head is None or self.whole:
            return None
        mean, terms = self.mean_head, smooth_range_terms(*self.log_sigma_bounds)
        return Kernel(
            [mean.weight, self.sigma_head.weight],
            [mean.bias, self.sigma_offset],
            sizes={"components": 1, "learned": 1, "action_range": terms},
        )


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
