"""The tanh squash of any density on R^X to the open box (−1, 1)^X, computed in u-space.

With x = tanh(u):  log p_x(x) = log p_u(u) − Σ_d log(1 − tanh² u_d), and in the stable form
log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)), exact in float32 where log(1 − x² + ε) saturates.
The correction is the same for every latent path, so bounds keep their side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.base import (
    Bounds,
    ConditionalDensity,
    ConditionalValue,
    Folded,
    Info,
    Latents,
    Standardise,
)
from vaerl.densities.kernel import Kernel
from vaerl.densities.noise import Noise, Shape

EDGE = 1.0 - 1e-6
"""Points beyond this magnitude are moved to it before atanh: |u| ≤ 7.25."""


def log_det_tanh(u: Tensor) -> Tensor:
    """Σ_d log(1 − tanh² u_d), in nats; the last dimension is summed."""
    return 2.0 * (u.shape[-1] * math.log(2.0) - (u + functional.softplus(-2.0 * u)).sum(-1))


def unsquash(x: Tensor) -> Tensor:
    """u = atanh(x), with x clipped to ±(1 − 1e-6) so that points on the boundary stay finite."""
    if (x.detach().abs() > 1.0).any():
        worst = x.detach().abs().max().item()
        raise ValueError(
            f"x: got a magnitude of {worst:.6g}, expected values in [-1, 1] with squash=True"
        )
    return torch.atanh(x.clamp(-EDGE, EDGE))


class SquashedValue(ConditionalValue):
    """p(tanh(u) | c) for a value p(u | c). `mode` is tanh of the mode in u-space, as in SB3."""

    def __init__(self, base: ConditionalValue) -> None:
        super().__init__(base.batch_shape, base.event_dim)
        self.base = base
        self.dtype = base.dtype

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether `log_prob` is exact: a property of the base value."""
        return self.base.exact

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        return torch.tanh(self.base.rsample(sample_shape, generator))

    def sample_mean(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """tanh of that of the base: for a normal decoder, the median of each dimension."""
        return torch.tanh(self.base.sample_mean(sample_shape, generator))

    def rsample_with_latents(
        self, sample_shape: Shape = (), generator: Noise = None
    ) -> tuple[Tensor, Latents]:
        u, latents = self.base.rsample_with_latents(sample_shape, generator)
        return torch.tanh(u), latents

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: Noise = None,
    ) -> tuple[Tensor, Tensor]:
        u, log_prob = self.base.rsample_and_log_prob(k, sample_shape, generator)
        return torch.tanh(u), log_prob - log_det_tanh(u)

    def log_prob(self, x: Tensor) -> Tensor:
        u = unsquash(self._check_event(x))
        return self.base.log_prob(u) - log_det_tanh(u)

    def log_prob_bounds(
        self,
        x: Tensor,
        k: int = 64,
        latents: Latents | None = None,
        generator: Noise = None,
    ) -> Bounds:
        u = unsquash(self._check_event(x))
        correction = log_det_tanh(u)
        lower, upper = self.base.log_prob_bounds(u, k, latents, generator)
        return Bounds(lower - correction, None if upper is None else upper - correction)

    def entropy_bounds(self, k: int = 64, n: int = 256, generator: Noise = None) -> Bounds:
        # In u-space throughout: near the edge of the box x no longer determines u.
        with torch.no_grad():
            u, latents = self.base.rsample_with_latents((n,), generator)
            lower, upper = self.base.log_prob_bounds(u, k, latents, generator)
            correction = log_det_tanh(u).mean(0)
        assert upper is not None, "samples carry their latents, so an upper bound exists"
        return Bounds(correction - upper.mean(0), correction - lower.mean(0))

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        return torch.tanh(self.base.mode(n))

    def entropy_estimate(
        self,
        samples: int,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        assert change is None, "one change of variables is enough"
        return self.base.entropy_estimate(samples, generator, log_det_tanh)

    def inside(self, x: Tensor) -> Tensor:
        return x.clamp(-EDGE, EDGE)


class Squashed(ConditionalDensity):
    """The density of x = tanh(u) in (−1, 1)^X for u of any density `base` over real numbers.

    >>> from vaerl.densities import make_density
    >>> density = make_density("gaussian", context_dim=3, event_dim=2, squash=True)
    >>> type(density).__name__, density.name, bool(density(torch.zeros(3)).sample().abs().max() < 1)
    ('Squashed', 'gaussian', True)
    """

    def __init__(self, base: ConditionalDensity) -> None:
        if base.whole:
            raise ValueError("whole: got True with squash, expected one of them: (−1, 1) holds 0")
        super().__init__(base.context_dim, base.event_dim)
        self.base, self.name = base, base.name
        self.sample_mean_kind = base.sample_mean_kind

    def _value(self, context: Tensor) -> SquashedValue:
        return SquashedValue(self.base(context))

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """The squashed fast form of the base; None with `targets`, which apply after the squash."""
        folded = None if targets is not None else self.base.fold(inputs)
        return None if folded is None else _FoldedSquash(folded)

    def _loss(
        self, context: Tensor, x: Tensor, change: Tensor | float, *rest: Any
    ) -> tuple[Tensor, Info]:
        u = unsquash(x)
        return self.base._loss(context, u, change + log_det_tanh(u), *rest)

    def kernel(self) -> Kernel | None:
        """That of the base: the native update squashes every density."""
        return self.base.kernel()

    @property
    def code_dim(self) -> int:
        return self.base.code_dim

    def recognition_parameters(self) -> list[nn.Parameter]:
        return self.base.recognition_parameters()

    def sleep_losses(
        self,
        contexts: Tensor,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        assert change is None, "one change of variables is enough"
        return self.base.sleep_losses(contexts, generator, log_det_tanh)

    def draw_codes(self, count: int, seed: int) -> Tensor:
        return self.base.draw_codes(count, seed)

    def freeze(self, codes: Tensor) -> Callable[[Tensor], ConditionalValue]:
        frozen = self.base.freeze(codes)
        return lambda context: SquashedValue(frozen(context))

    def value_given_codes(self, context: Tensor, codes: Tensor) -> ConditionalValue:
        return SquashedValue(self.base.value_given_codes(context, codes))

    def spread_out(self, log_sigma: float) -> None:
        self.base.spread_out(log_sigma)

    @property
    def mean_layer(self) -> nn.Module | None:
        return self.base.mean_layer


class _FoldedSquash(Folded):
    """tanh of a folded density."""

    def __init__(self, base: Folded) -> None:
        self.base = base

    def __call__(self, context: Tensor, generator: Noise = None) -> Tensor:
        return torch.tanh(self.base(context, generator))

    def value(self, context: Tensor, codes: Tensor | None = None) -> ConditionalValue:
        return SquashedValue(self.base.value(context, codes))

    def mode(self, context: Tensor, n: int = 32) -> Tensor:
        return torch.tanh(self.base.mode(context, n))
