"""Laws of the next state, p(s' | s, a), as values: the reference for learned models.

A law stands for a whole batch of pairs (s, a); with one pair the batch is empty. Shapes: states
`(*batch, D)`; samples `(count, *batch, D)`; scored points may have further leading axes. `scored`
are the S coordinates of s' that the law describes; the others follow from them and from (s, a).
Log-probabilities are in nats. Which measure they refer to depends on the law:

| law | log_prob is |
|---|---|
| `MixtureLaw` | the density of the scored coordinates, Lebesgue measure of R^S |
| `DiscreteLaw` | the log-probability of the point, counting measure |
| `UniformLaw` | the density along the coordinates that vary, −inf off the segment or box |
| `MixedLaw` | at an atom its log-probability, elsewhere the log-density of the rest |
| `ClippedLaw` | the same, for each coordinate |

The last three have no density in R^D, so the NLL of a model with a density cannot be compared with
them: score observations o = s' + N(0, σ² I), whose exact density is `noisy_log_prob`.
Points within 1e-5 of each other (float32 states) count as the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from vaerl.envs.base import Array
from vaerl.envs.log_densities import log, log_cdf_difference, log_mixture, log_normal

_SAME = 1e-5


class Law(ABC):
    """p(s' | s, a) for a batch of pairs.

    Attributes:
        batch_shape: shape of the batch of pairs, () for a single one.
        scored: the coordinates of s' that `mean`, `covariance` and densities are of.
    """

    batch_shape: tuple[int, ...]
    scored: tuple[int, ...]

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Draw next states (count, *batch, D)."""

    @abstractmethod
    def log_prob(self, next_states: ArrayLike) -> Array:
        """Return the log-probability (…, *batch) of next states (…, *batch, D), in nats."""

    @abstractmethod
    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        """Return the exact log-density of s' + N(0, σ² I) at points (…, *batch, D), σ > 0."""

    @abstractmethod
    def mean(self) -> Array:
        """Return the mean (*batch, S) of the scored coordinates."""

    @abstractmethod
    def covariance(self) -> Array:
        """Return the covariance (*batch, S, S) of the scored coordinates."""


class DiscreteLaw(Law):
    """Finitely many next states; one of them with probability 1 is a Dirac law.

    Args:
        support: (*batch, K, D).
        probabilities: (*batch, K), each row sums to 1; entries may be 0.

    >>> law = DiscreteLaw([[0.0], [1.0]], [0.25, 0.75])
    >>> law.mean().tolist(), law.covariance().tolist(), law.log_prob([2.0]).tolist()
    ([0.75], [[0.1875]], -inf)
    >>> law.sample(5, np.random.default_rng(0)).ravel().tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, support: ArrayLike, probabilities: ArrayLike) -> None:
        self.support = np.asarray(support, dtype=np.float64)
        self.probabilities = _weights("probabilities", probabilities)
        self.batch_shape = self.probabilities.shape[:-1]
        self.scored = tuple(range(self.support.shape[-1]))

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        return _pick(self.support, self.probabilities, count, rng)

    def log_prob(self, next_states: ArrayLike) -> Array:
        return log(_mass_at(next_states, self.support, self.probabilities))

    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        sigma = _positive(sigma)
        return log_mixture(observed, self.probabilities, self.support, np.array(sigma))

    def mean(self) -> Array:
        return (self.probabilities[..., None] * self.support).sum(axis=-2)

    def covariance(self) -> Array:
        return _scatter(self.probabilities, self.support - self.mean()[..., None, :])


class MixtureLaw(Law):
    """A mixture of Gaussians with independent coordinates, over the scored coordinates of s'.

    Args:
        weights: (*batch, K), each row sums to 1.
        means: (*batch, K, S).
        stds: above 0, broadcast to the means' shape.
        scored: the S coordinates of s', all of them unless given.
        complete: turns scored coordinates (…, *batch, S) into next states (…, *batch, D); needed
            where `scored` leaves some out.

    >>> law = MixtureLaw([0.5, 0.5], [[-1.0], [1.0]], 0.05)
    >>> law.log_prob([[1.0], [0.0]]).round(3).tolist()
    [1.384, -197.923]
    >>> law.covariance().round(4).tolist()
    [[1.0025]]
    """

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        stds: ArrayLike,
        *,
        scored: tuple[int, ...] | None = None,
        complete: Callable[[Array], Array] | None = None,
    ) -> None:
        self.weights = _weights("weights", weights)
        self.means = np.asarray(means, dtype=np.float64)
        self.stds = np.broadcast_to(np.asarray(stds, dtype=np.float64), self.means.shape)
        if not (self.stds > 0.0).all():
            raise ValueError(f"stds: got {float(self.stds.min())!r}, expected above 0")
        self.batch_shape = self.weights.shape[:-1]
        self.scored = tuple(range(self.means.shape[-1])) if scored is None else scored
        self._complete = complete

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        both = _pick(np.stack([self.means, self.stds], axis=-1), self.weights, count, rng)
        drawn = both[..., 0] + both[..., 1] * rng.standard_normal(both.shape[:-1])
        return drawn if self._complete is None else self._complete(drawn)

    def log_prob(self, next_states: ArrayLike) -> Array:
        kept = np.asarray(next_states, dtype=np.float64)[..., list(self.scored)]
        return log_mixture(kept, self.weights, self.means, self.stds)

    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        """Return the log-density of the scored coordinates of s' + N(0, σ² I)."""
        kept = np.asarray(observed, dtype=np.float64)[..., list(self.scored)]
        wider = np.sqrt(self.stds**2 + _positive(sigma) ** 2)
        return log_mixture(kept, self.weights, self.means, wider)

    def mean(self) -> Array:
        return (self.weights[..., None] * self.means).sum(axis=-2)

    def covariance(self) -> Array:
        within = (self.weights[..., None] * self.stds**2).sum(axis=-2)
        between = _scatter(self.weights, self.means - self.mean()[..., None, :])
        return between + within[..., None] * np.eye(within.shape[-1])


class UniformLaw(Law):
    """Uniform on a box; a coordinate with high ≤ low is the constant `low`.

    Args:
        low, high: (*batch, D).

    >>> law = UniformLaw([3.0, 0.0], [3.0, 2.0])
    >>> law.log_prob([[3.0, 1.0], [2.9, 1.0]]).round(4).tolist()
    [-0.6931, -inf]
    """

    def __init__(self, low: ArrayLike, high: ArrayLike) -> None:
        self.low = np.asarray(low, dtype=np.float64)
        self.high = np.maximum(np.asarray(high, dtype=np.float64), self.low)
        self.batch_shape = self.low.shape[:-1]
        self.scored = tuple(range(self.low.shape[-1]))

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        share = rng.random((count, *self.low.shape))
        return self.low + share * (self.high - self.low)

    def log_prob(self, next_states: ArrayLike) -> Array:
        point = np.asarray(next_states, dtype=np.float64)
        inside = ((point >= self.low - _SAME) & (point <= self.high + _SAME)).all(axis=-1)
        return np.where(inside, -np.log(self._widths()).sum(axis=-1), -np.inf)

    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        point, sigma = np.asarray(observed, dtype=np.float64), _positive(sigma)
        constant = log_normal((point - self.low) / sigma) - math.log(sigma)
        spread = log_cdf_difference((point - self.low) / sigma, (point - self.high) / sigma)
        varies = self.high > self.low
        return np.where(varies, spread - np.log(self._widths()), constant).sum(axis=-1)

    def mean(self) -> Array:
        return 0.5 * (self.low + self.high)

    def covariance(self) -> Array:
        return ((self.high - self.low) ** 2 / 12.0)[..., None] * np.eye(self.low.shape[-1])

    def _widths(self) -> Array:
        """Return the widths, 1 where a coordinate is constant."""
        return np.where(self.high > self.low, self.high - self.low, 1.0)


class MixedLaw(Law):
    """Atoms, and another law with the remaining probability.

    Args:
        atoms: (*batch, K, D).
        probabilities: (*batch, K), each row sums to 1 or less.
        rest: the law elsewhere, of the same batch and D.

    >>> law = MixedLaw([[0.0]], [0.4], UniformLaw([0.0], [2.0]))
    >>> np.exp(law.log_prob([[0.0], [1.0]])).round(3).tolist(), law.mean().tolist()
    ([0.4, 0.3], [0.6])
    """

    def __init__(self, atoms: ArrayLike, probabilities: ArrayLike, rest: Law) -> None:
        self.atoms = np.asarray(atoms, dtype=np.float64)
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        left = np.maximum(1.0 - self.probabilities.sum(axis=-1), 0.0)
        self._weights = np.concatenate([self.probabilities, left[..., None]], axis=-1)
        self.rest = rest
        self.batch_shape = self.probabilities.shape[:-1]
        self.scored = rest.scored

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        index = _indices(self._weights, count, rng)
        last = self.atoms.shape[-2]
        at_atom = _take(self.atoms, np.minimum(index, last - 1))
        return np.where((index == last)[..., None], self.rest.sample(count, rng), at_atom)

    def log_prob(self, next_states: ArrayLike) -> Array:
        mass = _mass_at(next_states, self.atoms, self.probabilities)
        elsewhere = log(self._weights[..., -1]) + self.rest.log_prob(next_states)
        return np.where(mass > 0.0, log(mass), elsewhere)

    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        at_atoms = log_mixture(observed, self.probabilities, self.atoms, np.array(sigma))
        elsewhere = self.rest.noisy_log_prob(observed, sigma)
        return np.logaddexp(at_atoms, log(self._weights[..., -1]) + elsewhere)

    def mean(self) -> Array:
        return (self._weights[..., None] * self._means()).sum(axis=-2)

    def covariance(self) -> Array:
        between = _scatter(self._weights, self._means() - self.mean()[..., None, :])
        return between + self._weights[..., -1, None, None] * self.rest.covariance()

    def _means(self) -> Array:
        """Return the places (*batch, K + 1, S) of the parts, the rest's mean last."""
        return np.concatenate([self.atoms, self.rest.mean()[..., None, :]], axis=-2)


class ClippedLaw(Law):
    """Independent Gaussians clipped to [low, high]: every coordinate has an atom at either end.

    Log-probabilities add up over the coordinates: at an atom its log-probability, inside the
    Gaussian's log-density, −inf beyond.

    Args:
        means: (*batch, S).
        stds: above 0, broadcast to the means' shape, as are low and high.
        low, high: finite ends.
        scored, complete: as in `MixtureLaw`.

    >>> law = ClippedLaw([0.0], 1.0, 0.0, 2.0)
    >>> law.log_prob([[0.0], [1.0], [3.0]]).round(3).tolist(), law.mean().round(3).tolist()
    ([-0.693, -1.419, -inf], [0.39])
    """

    def __init__(
        self,
        means: ArrayLike,
        stds: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        *,
        scored: tuple[int, ...] | None = None,
        complete: Callable[[Array], Array] | None = None,
    ) -> None:
        self.means = np.asarray(means, dtype=np.float64)
        shape = self.means.shape
        self.stds, self.low, self.high = (
            np.broadcast_to(np.asarray(value, dtype=np.float64), shape)
            for value in (stds, low, high)
        )
        if not (self.stds > 0.0).all():
            raise ValueError(f"stds: got {float(self.stds.min())!r}, expected above 0")
        if not (self.low < self.high).all():
            raise ValueError(f"low: got {self.low.tolist()!r}, expected below {self.high.tolist()}")
        self.batch_shape = shape[:-1]
        self.scored = tuple(range(shape[-1])) if scored is None else scored
        self._complete = complete
        self._ends = (self.low - self.means) / self.stds, (self.high - self.means) / self.stds

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        drawn = self.means + self.stds * rng.standard_normal((count, *self.means.shape))
        drawn = np.clip(drawn, self.low, self.high)
        return drawn if self._complete is None else self._complete(drawn)

    def log_prob(self, next_states: ArrayLike) -> Array:
        kept = np.asarray(next_states, dtype=np.float64)[..., list(self.scored)]
        density = log_normal((kept - self.means) / self.stds) - np.log(self.stds)
        outside = (kept < self.low) | (kept > self.high)
        at_ends = np.abs(kept - self.low) <= _SAME, np.abs(kept - self.high) <= _SAME
        parts = np.select([*at_ends, outside], [*self._log_atoms(), -np.inf], density)
        return parts.sum(axis=-1)

    def noisy_log_prob(self, observed: ArrayLike, sigma: float) -> Array:
        """Return the log-density of the scored coordinates of s' + N(0, σ² I)."""
        kept = np.asarray(observed, dtype=np.float64)[..., list(self.scored)]
        noise, total = _positive(sigma), np.hypot(self.stds, sigma)
        middle = (self.means * noise**2 + kept * self.stds**2) / total**2
        width = self.stds * noise / total
        inside = log_normal((kept - self.means) / total) - np.log(total)
        inside += log_cdf_difference((self.high - middle) / width, (self.low - middle) / width)
        below, above = (
            atom + log_normal((kept - end) / noise) - math.log(noise)
            for atom, end in zip(self._log_atoms(), (self.low, self.high), strict=True)
        )
        return np.logaddexp(inside, np.logaddexp(below, above)).sum(axis=-1)

    def mean(self) -> Array:
        return self.means + self.stds * self._moments()[0]

    def covariance(self) -> Array:
        first, second = self._moments()
        variance = self.stds**2 * (second - first**2)
        return variance[..., None] * np.eye(variance.shape[-1])

    def _log_atoms(self) -> tuple[Array, Array]:
        """Return the log-probabilities of the ends."""
        low, high = self._ends
        return log_ndtr(low), log_ndtr(-high)

    def _moments(self) -> tuple[Array, Array]:
        """Return E z and E z² of z = (x − mean) / std."""
        low, high = self._ends
        below, above = (np.exp(atom) for atom in self._log_atoms())
        at_low, at_high = (np.exp(log_normal(end)) for end in self._ends)
        first = low * below + high * above + at_low - at_high
        inside = 1.0 - below - above + low * at_low - high * at_high
        return first, low**2 * below + high**2 * above + inside


def _weights(name: str, value: ArrayLike) -> Array:
    weights = np.asarray(value, dtype=np.float64)
    if not ((weights >= 0.0).all() and np.allclose(weights.sum(axis=-1), 1.0, atol=1e-9)):
        raise ValueError(f"{name}: got {weights.tolist()!r}, expected 0 or more with sum 1")
    return weights


def _positive(sigma: float) -> float:
    if not 0.0 < sigma < math.inf:
        raise ValueError(f"sigma: got {sigma!r}, expected above 0")
    return float(sigma)


def _indices(weights: Array, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw component indices (count, *batch) from weights (*batch, K)."""
    total = np.cumsum(weights, axis=-1)
    share = rng.random((count, *weights.shape[:-1]))[..., None] * total[..., -1:]
    return (share >= total[..., :-1]).sum(axis=-1)


def _take(values: Array, index: np.ndarray) -> Array:
    """Return values[index] (count, *batch, …) from values (*batch, K, …)."""
    batch = index.ndim - 1
    wide = index.reshape(*index.shape, *[1] * (values.ndim - batch))
    return np.take_along_axis(values[None], wide, axis=1 + batch).squeeze(axis=1 + batch)


def _pick(values: Array, weights: Array, count: int, rng: np.random.Generator) -> Array:
    return _take(values, _indices(weights, count, rng))


def _mass_at(points: ArrayLike, support: Array, probabilities: Array) -> Array:
    offset = np.asarray(points, dtype=np.float64)[..., None, :] - support
    return (probabilities * (np.abs(offset) <= _SAME).all(axis=-1)).sum(axis=-1)


def _scatter(weights: Array, offsets: Array) -> Array:
    """Return Σ_k w_k d_k d_kᵀ (*batch, S, S)."""
    return np.einsum("...k,...ki,...kj->...ij", weights, offsets, offsets)
