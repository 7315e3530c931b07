"""Gaussian building blocks: diagonal normals, and mixtures of them, as plain values with shapes.

These carry no sample-shape semantics of their own: parameters broadcast against the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaerl.densities.noise import Shape, standard_normal, uniform

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class DiagonalNormal:
    """N(x; mean, diag(exp(log_sigma))²), parameters ``(..., X)``."""

    mean: Tensor
    log_sigma: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ_d −½((x−μ)/σ)² − log σ − ½ log 2π, in nats; the last dimension is summed."""
        return _log_normal(x, self.mean, self.log_sigma, self._precision)

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        """μ + σ ε with ε ~ N(0, I), ``sample_shape + mean.shape``."""
        noise = standard_normal((*sample_shape, *self.mean.shape), self.mean, generator)
        return self.at(noise)

    def at(self, noise: Tensor) -> Tensor:
        """The point μ + σ ε that a given noise maps to."""
        return torch.addcmul(self.mean, torch.exp(self.log_sigma), noise)

    @cached_property
    def _precision(self) -> Tensor:
        return torch.exp(-self.log_sigma)

    def detach(self) -> DiagonalNormal:
        """The same normal without gradient."""
        return DiagonalNormal(self.mean.detach(), self.log_sigma.detach())

    def entropy(self) -> Tensor:
        """Σ_d log σ_d + ½ log 2πe, in nats."""
        return (self.log_sigma + HALF_LOG_TWO_PI + 0.5).sum(-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each ``(..., X)``."""
        return self.mean, torch.exp(self.log_sigma)


@dataclass(frozen=True)
class NormalMixture:
    """Σ_m w_m N(x; mean_m, diag(exp(log_sigma_m))²); log_weights ``(..., M)`` normalised, others
    ``(..., M, X)``."""

    log_weights: Tensor
    mean: Tensor
    log_sigma: Tensor

    def component_log_probs(self, x: Tensor) -> Tensor:
        """log w_m + log N_m(x), ``(..., M)``."""
        return self._components_first(x).movedim(0, -1)

    def log_prob(self, x: Tensor) -> Tensor:
        """logsumexp_m of the component log-densities, in nats."""
        return torch.logsumexp(self._components_first(x), dim=0)

    def _components_first(self, x: Tensor) -> Tensor:
        """log w_m + log N_m(x), ``(M, ...)``.

        Worked out with the batch innermost, (M, X, ..., batch): with M or X innermost, both small,
        sums and broadcasts take ten times as long.
        """
        log_weights, mean, log_sigma, precision = self._batch_last
        points = x.movedim(-1, 0)
        spare = points.ndim - mean.ndim + 1
        if spare > 0:
            mean, log_sigma, precision = (
                p.reshape(*p.shape[:2], *(1,) * spare, *p.shape[2:])
                for p in (mean, log_sigma, precision)
            )
            log_weights = log_weights.reshape(-1, *(1,) * spare, *log_weights.shape[1:])
        return log_weights + self._log_normals(points, mean, log_sigma, precision)

    def _log_normals(
        self, points: Tensor, mean: Tensor, log_sigma: Tensor, precision: Tensor
    ) -> Tensor:
        """log N_m(x) ``(M, ...)`` of points ``(X, ...)`` and parameters ``(M, X, ...)``."""
        z = (points - mean) * precision
        nats = torch.addcmul(log_sigma, z, z, value=0.5).sum(1)
        return -self.mean.shape[-1] * HALF_LOG_TWO_PI - nats

    @cached_property
    def _batch_last(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log w ``(M, ...)``, then mean, log σ and 1/σ ``(M, X, ...)``, all contiguous."""
        mean, log_sigma = (
            p.movedim((-2, -1), (0, 1)).contiguous() for p in (self.mean, self.log_sigma)
        )
        log_weights = self.log_weights.movedim(-1, 0).contiguous()
        return log_weights, mean, log_sigma, torch.exp(-log_sigma)

    @property
    def places(self) -> Tensor:
        """The most likely point of every component, ``(..., M, X)``."""
        return self.mean

    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        """Ancestral samples ``sample_shape + batch + (X,)``; no gradient reaches the weights."""
        batch = self.mean.shape[:-2]
        u = uniform((*sample_shape, *batch), self.mean, generator)
        noise = standard_normal((*sample_shape, *batch, self.mean.shape[-1]), self.mean, generator)
        return self.at(u, noise)

    def at(self, u: Tensor, noise: Tensor) -> Tensor:
        """The point that a uniform u ``(..., *batch)`` and a noise ``(..., *batch, X)`` map to.

        u picks the component by the inverse of the cumulative weights, noise the place in it.
        """
        return _select(self.mean, self.component(u), noise, self._sigma)

    def component(self, u: Tensor) -> Tensor:
        """Index of the component whose share of [0, 1) holds u."""
        return (u.unsqueeze(-1) >= self._edges).sum(-1)

    @cached_property
    def _sigma(self) -> Tensor:
        return torch.exp(self.log_sigma)

    @cached_property
    def _edges(self) -> Tensor:
        return torch.exp(self.log_weights.detach()).cumsum(-1)[..., :-1]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the mixture, each ``(..., X)``."""
        weights = torch.exp(self.log_weights).unsqueeze(-1)
        mean = (weights * self.mean).sum(-2)
        second = (weights * (self.mean**2 + torch.exp(2.0 * self.log_sigma))).sum(-2)
        return mean, (second - mean**2).clamp_min(1e-12).sqrt()


def _log_normal(x: Tensor, mean: Tensor, log_sigma: Tensor, precision: Tensor) -> Tensor:
    """log N(x; mean, exp(log_sigma)²) summed over the last dimension; precision = exp(−log_sigma).

    Written with few operations: on the small tensors of a policy head their number is the cost.
    """
    z = (x - mean) * precision
    nats = torch.addcmul(log_sigma, z, z, value=0.5).sum(-1)
    return -mean.shape[-1] * HALF_LOG_TWO_PI - nats


def _select(mean: Tensor, index: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """mean_m + sigma_m · noise with m = index ``(*sample, *batch)``; mean and sigma ``(*batch, M,
    X)``.

    The samples are gathered along M from the un-expanded parameters, so that the backward pass
    stays small.
    """
    batch = mean.shape[:-2]
    samples = index.reshape(-1, *batch).movedim(0, -1)
    at = samples.unsqueeze(-1).expand(*samples.shape, mean.shape[-1])
    shape = (*index.shape, mean.shape[-1])
    picked_mean, picked_sigma = (
        parameter.gather(-2, at).movedim(-2, 0).reshape(shape) for parameter in (mean, sigma)
    )
    return torch.addcmul(picked_mean, picked_sigma, noise)
