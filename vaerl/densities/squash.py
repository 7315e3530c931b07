"""The tanh squash of a density on R^X to the open box (−1, 1)^X, computed in u-space.

With x = tanh(u):  log p_x(x) = log p_u(u) − Σ_d log(1 − tanh² u_d), and in the stable form
log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)), exact in float32 where log(1 − x² + ε) saturates.
The correction is the same for every latent path, so bounds keep their side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from vaerl.densities.base import Bounds, ConditionalValue, Latents
from vaerl.densities.noise import Shape

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

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        return torch.tanh(self.base.rsample(sample_shape, generator))

    def rsample_with_latents(
        self, sample_shape: Shape = (), generator: torch.Generator | None = None
    ) -> tuple[Tensor, Latents]:
        u, latents = self.base.rsample_with_latents(sample_shape, generator)
        return torch.tanh(u), latents

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: torch.Generator | None = None,
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
        generator: torch.Generator | None = None,
    ) -> Bounds:
        u = unsquash(self._check_event(x))
        correction = log_det_tanh(u)
        lower, upper = self.base.log_prob_bounds(u, k, latents, generator)
        return Bounds(lower - correction, None if upper is None else upper - correction)

    def entropy_bounds(
        self, k: int = 64, n: int = 256, generator: torch.Generator | None = None
    ) -> Bounds:
        # In u-space throughout: near the edge of the box x no longer tells u.
        with torch.no_grad():
            u, latents = self.base.rsample_with_latents((n,), generator)
            lower, upper = self.base.log_prob_bounds(u, k, latents, generator)
            correction = log_det_tanh(u).mean(0)
        assert upper is not None, "samples carry their latents, so an upper bound exists"
        return Bounds(correction - upper.mean(0), correction - lower.mean(0))

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        return torch.tanh(self.base.mode(n))
