"""Diagonal normals and mixtures of them: plain laws, and the density values that they make.

The parameters of a law broadcast against the points; sample shapes belong to the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaerl.densities.base import ConditionalValue
from vaerl.densities.noise import Noise, Shape, standard_normal, uniform
from vaerl.densities.options import check_positive

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
SMALL = 1 << 13
"""Numbers below which operations cost by their count, and above which by their layout."""


@dataclass(frozen=True)
class DiagonalNormal:
    """N(x; mean, diag(exp(log_sigma))²), parameters ``(..., X)``."""

    mean: Tensor
    log_sigma: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ_d −½((x−μ)/σ)² − log σ − ½ log 2π, in nats; the last dimension is summed."""
        return _log_normal(x, self.mean, self.log_sigma, self._precision)

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """μ + σ ε with ε ~ N(0, I), ``sample_shape + mean.shape``."""
        noise = standard_normal((*sample_shape, *self.mean.shape), self.mean, generator)
        return self.at(noise)

    def at(self, noise: Tensor) -> Tensor:
        """The point μ + σ ε that a given noise maps to."""
        return torch.addcmul(self.mean, torch.exp(self.log_sigma), noise)

    def place(self, u: Tensor, noise: Tensor) -> Tensor:
        """`at`, with the call of a mixture: a single normal has no use for u."""
        return self.at(noise)

    def equal_mixture(self) -> NormalMixture:
        """The mixture of K normals ``(K, ..., X)`` with weights 1/K, parameters ``(..., K, X)``."""
        mean = self.mean.movedim(0, -2)
        log_weights = mean.new_full(mean.shape[:-1], -math.log(len(self.mean)))
        return NormalMixture(log_weights, mean, self.log_sigma.expand_as(self.mean).movedim(0, -2))

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
        if _many(self.mean) or self.mean.requires_grad:
            return self._components_first(x).movedim(0, -1)
        parts = (self.mean, self.log_sigma, self._precision)
        return self._log_normals(x.unsqueeze(-2), *parts, -1) + self.log_weights

    def log_prob(self, x: Tensor) -> Tensor:
        """logsumexp_m of the component log-densities, in nats."""
        if _many(self.mean) or self.mean.requires_grad:
            return torch.logsumexp(self._components_first(x), dim=0)
        return torch.logsumexp(self.component_log_probs(x), dim=-1)

    def _components_first(self, x: Tensor) -> Tensor:
        """log w_m + log N_m(x), ``(M, ...)``.

        Computed with the batch innermost, (M, X, ..., batch): with M or X innermost, both small,
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
        return log_weights + self._log_normals(points, mean, log_sigma, precision, 1)

    def _log_normals(
        self, x: Tensor, mean: Tensor, log_sigma: Tensor, precision: Tensor, dim: int
    ) -> Tensor:
        """log N_m(x), summed over the dimension of X."""
        return _log_normal(x, mean, log_sigma, precision, dim)

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

    def best(self) -> Tensor:
        """The point of `places` with the highest density, ``batch + (X,)``."""
        with torch.no_grad():
            if _many(self.mean, each=self.mean.shape[-2]):
                index = self._best_of_many()
            else:
                each = self._log_normals(
                    self.places.unsqueeze(-2),
                    self.mean.unsqueeze(-3),
                    self.log_sigma.unsqueeze(-3),
                    self._precision.unsqueeze(-3),
                    -1,
                )
                logs = each + self.log_weights.unsqueeze(-2)
                index = torch.logsumexp(logs, dim=-1).argmax(-1)
        at = index[..., None, None].expand(*index.shape, 1, self.mean.shape[-1])
        return self.places.gather(-2, at).squeeze(-2)

    def _best_of_many(self) -> Tensor:
        """Its index, with the batch innermost."""
        log_weights, mean, log_sigma, precision = (
            part.unsqueeze(1 - self.mean.ndim) for part in self._batch_last
        )
        points = self.places.movedim((-2, -1), (1, 0))  # (X, K, ...)
        logs = log_weights + self._log_normals(points, mean, log_sigma, precision, 1)
        # Densities over the highest of all terms: the best point is far from underflow.
        return (logs - logs.amax((0, 1))).exp_().sum(0).argmax(0)

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """Ancestral samples ``sample_shape + batch + (X,)``; no gradient reaches the weights."""
        batch = self.mean.shape[:-2]
        u = uniform((*sample_shape, *batch), self.mean, generator)
        noise = standard_normal((*sample_shape, *batch, self.mean.shape[-1]), self.mean, generator)
        return self.place(u, noise)

    def place(self, u: Tensor, noise: Tensor) -> Tensor:
        """The point that a uniform u ``(..., *batch)`` and a noise ``(..., *batch, X)`` map to.

        u picks the component by the inverse of the cumulative weights, noise the place in it.
        """
        return _select(self.mean, self.component(u), noise, self._sigma)

    def component(self, u: Tensor) -> Tensor:
        """Index of the component whose share of [0, 1) contains u."""
        return (u.unsqueeze(-1) >= self._edges).sum(-1)

    @cached_property
    def _sigma(self) -> Tensor:
        return torch.exp(self.log_sigma)

    @cached_property
    def _precision(self) -> Tensor:
        return torch.exp(-self.log_sigma)

    @cached_property
    def _edges(self) -> Tensor:
        return torch.exp(self.log_weights.detach()).cumsum(-1)[..., :-1]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the mixture, each ``(..., X)``."""
        weights = torch.exp(self.log_weights).unsqueeze(-1)
        mean = (weights * self.mean).sum(-2)
        second = (weights * (self.mean**2 + torch.exp(2.0 * self.log_sigma))).sum(-2)
        return mean, (second - mean**2).clamp_min(1e-12).sqrt()


class GaussianValue(ConditionalValue):
    """N(μ(c), diag σ(c)²) at given contexts."""

    def __init__(self, normal: DiagonalNormal) -> None:
        super().__init__(normal.mean.shape[:-1], normal.mean.shape[-1])
        self.normal = normal

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        return self.normal.rsample(sample_shape, generator)

    def sample_mean(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """The mean: a Gaussian has no latent to draw."""
        with torch.no_grad():
            return self.mean.expand(*sample_shape, *self.mean.shape)

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


class MixtureValue(ConditionalValue):
    """A Gaussian mixture at given contexts; samples carry no gradient to the weights."""

    def __init__(self, mixture: NormalMixture) -> None:
        super().__init__(mixture.mean.shape[:-2], mixture.mean.shape[-1])
        self.mixture = mixture

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        return self.mixture.rsample(sample_shape, generator)

    def sample_mean(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """The mean of a drawn component."""
        with torch.no_grad():
            places = self.mixture.places
            u = uniform((*sample_shape, *places.shape[:-2]), places, generator)
            return self.mixture.place(u, places.new_zeros(places.shape[-1]))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.mixture.log_prob(self._check_event(x))

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """The component mean of highest density (candidates are the means; n is not needed)."""
        check_positive("n", n)
        return self.mixture.best()

    def entropy_estimate(
        self,
        samples: int,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """As `ConditionalValue.entropy_estimate`; with trained weights Σ_m w_m E_m[−log p].

        A sample alone carries no gradient to the weights.
        """
        mixture = self.mixture
        if not mixture.log_weights.requires_grad:
            return super().entropy_estimate(samples, generator, change)
        mean, log_sigma = mixture.mean.movedim(-2, 0), mixture.log_sigma.movedim(-2, 0)
        x = torch.addcmul(mean, log_sigma.exp(), standard_normal(mean.shape, mean, generator))
        surprise = -self.log_prob(x)
        if change is not None:
            surprise = surprise + change(x)
        return (mixture.log_weights.movedim(-1, 0).exp() * surprise).sum(0)

    @property
    def mean(self) -> Tensor:
        """E[x | c], ``batch + (X,)``."""
        return self.mixture.moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of each dimension, ``batch + (X,)``."""
        return self.mixture.moments()[1].square()


def _many(tensor: Tensor, each: int = 1) -> bool:
    """Whether it is past `SMALL`; never in a graph, which is for batches of any size."""
    return not torch.compiler.is_compiling() and tensor.numel() * each > SMALL


def _log_normal(
    x: Tensor, mean: Tensor, log_sigma: Tensor, precision: Tensor, dim: int = -1
) -> Tensor:
    """log N(x; mean, exp(log_sigma)²) summed over one dimension; precision = exp(−log_sigma).

    Written with few operations: on the small tensors of a policy head their number is the cost.
    """
    z = (x - mean) * precision
    nats = torch.addcmul(log_sigma, z, z, value=0.5).sum(dim)
    return -mean.shape[dim] * HALF_LOG_TWO_PI - nats


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
