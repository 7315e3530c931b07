"""How many modes a density has, counted from draws of it.

Two places are different modes if the density between them, along the line that joins them, falls
below `VALLEY` of the lower of the two. The first part of the draws proposes: Ward's clustering cuts
them into many small cells, and pairs of groups are looked at along the line between their means.
The other part decides: a group stays apart only where a binomial test finds the valley among draws
that had no part in choosing the line. So a plain Gaussian in 32 dimensions has one mode, although
any finite cloud can be cut where it happens to be thin.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.cluster.vq import kmeans2
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist
from scipy.stats import binom, binomtest

Array = NDArray[np.float64]

VALLEY = 0.5
"""Density between two modes, as a share of the lower of the two, below which they are two."""
RESOLUTION = 0.1
"""Distance below which two places are one mode, in units of the draws."""
LEVEL = 0.01
"""Level of the test for one valley."""
PROPOSE = 2048
"""Most draws that propose; the rest decide."""
A_CELL = 16
"""Proposing draws in a cell."""
FACING = 4 * A_CELL
"""Proposing draws on each side of a possible valley, at least, where there are so many."""
BINS = 8
"""Bins between the means of two groups."""
FEWEST = 64
"""Draws without which nothing can be said."""


@dataclass(frozen=True)
class Modes:
    """M modes of a density, the largest first, in the units of the draws.

    >>> rng = np.random.default_rng(0)
    >>> modes = find_modes(rng.normal(size=(2000, 2)) + 9 * rng.integers(2, size=(2000, 1)))
    >>> modes.count, modes.centres.round().tolist() in ([[0, 0], [9, 9]], [[9, 9], [0, 0]])
    (2, True)
    """

    shares: Array
    """Share of the draws in each mode ``(M,)``; they sum to 1."""
    intervals: Array
    """95 % interval of each share (Wilson) ``(M, 2)``."""
    centres: Array
    """Mean of each mode ``(M, D)``."""
    spreads: Array
    """Root of the mean variance of a dimension around the centre ``(M,)``."""
    labels: NDArray[np.int64]
    """The mode of every draw ``(N,)``."""

    @property
    def count(self) -> int:
        """M."""
        return len(self.shares)


def find_modes(
    draws: ArrayLike, *, valley: float = VALLEY, resolution: float = RESOLUTION
) -> Modes:
    """The modes of the density that independent draws ``(N, D)`` come from.

    A mode with fewer than about 20 deciding draws counts to its neighbour.

    Args:
        draws: in units in which distances mean the same in every dimension.
        valley: density between two modes, as a share of the lower one, that makes them two.
        resolution: modes nearer to each other than this are one.

    Raises:
        ValueError: fewer than `FEWEST` draws, numbers that are not finite, or a share or a distance
            that is not legal.
    """
    x = np.asarray(draws, dtype=np.float64)
    if x.ndim != 2 or len(x) < FEWEST or not x.shape[1]:
        raise ValueError(f"draws: got shape {x.shape}, expected (N, D) with N of {FEWEST} or more")
    if not np.isfinite(x).all():
        raise ValueError("draws: got NaN or an infinite number, expected finite numbers")
    if not 0.0 < valley < 1.0:
        raise ValueError(f"valley: got {valley!r}, expected a number between 0 and 1")
    if not resolution > 0.0:
        raise ValueError(f"resolution: got {resolution!r}, expected a number above 0")
    proposing = x[: min(PROPOSE, len(x) // 2)]
    centres = _cells(proposing, resolution)
    nearest = KDTree(centres).query(x)[1]
    groups = _Groups(x, len(proposing), nearest, len(centres), valley, resolution)
    near_first = np.argsort(pdist(centres), kind="stable")
    pairs = list(combinations(range(len(centres)), 2))
    for place in near_first:
        groups.join(*pairs[place])
    return _describe(x, groups.of_cell[nearest])


def _cells(x: Array, resolution: float) -> Array:
    """Centres of cells with about `A_CELL` draws each, nowhere finer than a quarter of
    `resolution`."""
    if np.ptp(x, axis=0).max() < resolution / 4:
        return x.mean(0, keepdims=True)
    count = max(1, len(x) // A_CELL)
    cut = fcluster(linkage(x, "ward"), count, "maxclust")
    start = np.array([x[cut == cell].mean(0) for cell in np.unique(cut)])
    centres, labels = kmeans2(x, start, iter=10, minit="matrix", missing="warn")
    return centres[np.unique(labels)]


class _Groups:
    """Cells that are joined to groups; draws before `split` propose, those after it decide."""

    def __init__(
        self,
        x: Array,
        split: int,
        nearest: NDArray[np.int64],
        cells: int,
        valley: float,
        resolution: float,
    ) -> None:
        order = np.argsort(nearest, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(nearest, minlength=cells))[:-1])
        self.x, self.split, self.valley, self.resolution = x, split, valley, resolution
        self.of_cell = np.arange(cells)
        self._members = dict(enumerate(parts))
        self._apart: set[tuple[int, int, int, int]] = set()

    def join(self, first: int, second: int) -> None:
        """Make the groups of two cells one, unless there is a valley between them."""
        a, b = sorted((int(self.of_cell[first]), int(self.of_cell[second])))
        if a == b:
            return
        sizes = len(self._members[a]), len(self._members[b])
        if (a, b, *sizes) in self._apart:
            return
        if self._valley_between(self._members[a], self._members[b]):
            self._apart.add((a, b, *sizes))
            return
        self._members[a] = np.concatenate([self._members[a], self._members.pop(b)])
        self.of_cell[self.of_cell == b] = a

    def _valley_between(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
        """Whether fresh draws show less than `valley` of the lower side somewhere in between."""
        proposing = [self.x[rows[rows < self.split]] for rows in (a, b)]
        if not all(map(len, proposing)):
            return False
        means = [rows.mean(0) for rows in proposing]
        if np.linalg.norm(means[1] - means[0]) < self.resolution:
            return False
        size = max(FACING, min(map(len, proposing)))
        parts = self._facing(a, means[1], size), self._facing(b, means[0], size)
        rows = np.concatenate(parts)
        start, axis = _line(*(self.x[r[r < self.split]] for r in parts))
        along = (self.x[rows] - start) @ axis
        seen, fresh = (_profile(along[side]) for side in (rows < self.split, rows >= self.split))
        middle = len(seen) // 2
        left = int(seen[: middle + 1].argmax())
        right = middle + int(seen[middle:].argmax())
        between = left + int(seen[left : right + 1].argmin())
        low = min(fresh[left], fresh[right])
        chance = self.valley / (1.0 + self.valley)
        return bool(binom.cdf(fresh[between], fresh[between] + low, chance) < LEVEL)

    def _facing(self, rows: NDArray[np.int64], point: Array, size: int) -> NDArray[np.int64]:
        """The part of a group that is nearest to a point: `size` proposing draws, and fresh ones
        within the same distance."""
        distance = np.linalg.norm(self.x[rows] - point, axis=1)
        return rows[distance <= np.sort(distance[rows < self.split])[:size][-1]]


def _line(a: Array, b: Array) -> tuple[Array, Array]:
    """The mean of a, and Fisher's direction, along which that of a is at 0 and that of b at 1.

    The covariance within the groups is shrunk to a multiple of the identity, the more the fewer
    rows there are: with few rows in many dimensions the line simply joins the means.
    """
    start, step = a.mean(0), b.mean(0) - a.mean(0)
    within = np.concatenate([a - start, b - b.mean(0)])
    rows, size = within.shape
    covariance = within.T @ within / rows
    mean = max(float(np.trace(covariance)) / size, 1e-12 * float(step @ step), 1e-300)
    shrunk = min(1.0, 4.0 * size / rows)
    covariance = (1.0 - shrunk) * covariance + shrunk * mean * np.eye(size)
    axis = np.linalg.solve(covariance, step)
    length = float(axis @ step)
    return start, axis / length if length > 0.0 else axis


def _profile(along: Array) -> NDArray[np.int64]:
    """Draws in overlapping windows two bins wide, from one length before 0 to one after 1."""
    bins = np.clip(((along + 1.0) * BINS).round().astype(int), -1, 3 * BINS + 1) + 1
    counts = np.bincount(bins, minlength=3 * BINS + 3)[1:-1]
    return counts[:-1] + counts[1:]


def _describe(x: Array, labels: NDArray[np.int64]) -> Modes:
    names, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    labels = np.argsort(order)[labels]
    centres = np.array([x[labels == mode].mean(0) for mode in range(len(names))])
    squares = np.square(x - centres[labels]).mean(1)
    spreads = np.sqrt([squares[labels == mode].mean() for mode in range(len(names))])
    shares = counts[order] / len(x)
    return Modes(shares, share_interval(counts[order], len(x)), centres, spreads, labels)


def share_interval(counts: ArrayLike, total: int) -> Array:
    """95 % intervals (Wilson) of shares, ``(M, 2)``.

    >>> share_interval([50], 100).round(3).tolist()
    [[0.404, 0.596]]
    """
    found = [
        binomtest(int(count), total).proportion_ci(0.95, "wilson")
        for count in np.atleast_1d(counts)
    ]
    return np.array([(interval.low, interval.high) for interval in found])
