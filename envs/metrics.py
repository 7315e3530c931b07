"""Scores of multimodal behaviour, and what a perfect policy scores on a finite number of episodes.

All functions take `goals`: one integer per episode, the index of the goal (or mode) it ended in,
−1 where it reached none; this is `info["goal"]` of each episode's last step. Run a fixed number of
episodes per parallel copy: counting the first to finish favours short ones.

Finite samples alone keep a perfect policy below 1: `score_ceiling` and `entropy_ceiling` say how
far, `total_variation_floor` says the same for a distance. Print them beside the score.
Sources: Wang, Liu & Pan 2025 (DrAC); Jia et al. 2024 (D3IL).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binom

from vaerl.names import check_name

Goals = Sequence[int] | NDArray[np.integer]
_DRAWS = 20_000
_CELLS = 1_000_000  # kernel entries held at once


class Noise(NamedTuple):
    """A score of a perfect uniform policy: its exact mean and a simulated percentile."""

    mean: float
    percentile: float


def goal_counts(goals: Goals, num_goals: int) -> NDArray[np.int64]:
    """Count the episodes that ended in each goal: (num_goals,).

    >>> goal_counts([0, 2, 2, -1], 4).tolist()
    [1, 0, 2, 0]
    """
    if num_goals < 1:
        raise ValueError(f"num_goals: got {num_goals!r}, expected 1 or more")
    array = np.asarray(goals)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"goals: got {goals!r}, expected a non-empty sequence of integers")
    if array.min() < -1 or array.max() >= num_goals:
        bad = int(array.min() if array.min() < -1 else array.max())
        raise ValueError(f"goals: got {bad}, expected -1 to {num_goals - 1}")
    return np.bincount(array[array >= 0], minlength=num_goals)


def success_rate(goals: Goals, num_goals: int) -> float:
    """Share of episodes that reached a goal.

    >>> success_rate([0, 2, 2, -1], 4)
    0.75
    """
    return float(goal_counts(goals, num_goals).sum() / len(goals))


def goals_reached(goals: Goals, num_goals: int) -> int:
    """Count the different goals that some episode reached (DrAC's reachable modes).

    >>> goals_reached([0, 2, 2, -1], 4)
    2
    """
    return int((goal_counts(goals, num_goals) > 0).sum())


def multi_goal_score(goals: Goals, num_goals: int) -> float:
    """DrAC's score Σ_i min(n_i / E, 1 / G) ∈ [0, 1]; a policy with one mode gets 1/G.

    >>> multi_goal_score([0, 1, 2, 2], 4)
    0.75
    """
    share = goal_counts(goals, num_goals) / len(goals)
    return float(np.minimum(share, 1.0 / num_goals).sum())


def mode_entropy(goals: Goals, num_modes: int) -> float:
    """D3IL's entropy −Σ_m p_m log p_m / log M over the successful episodes; 0 when none succeeds.

    >>> mode_entropy([0, 0, 1, 1, -1], 4), mode_entropy([-1, -1], 4)
    (0.5, 0.0)
    """
    counts = goal_counts(goals, num_modes)
    if counts.sum() == 0 or num_modes == 1:
        return 0.0
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum() / math.log(num_modes)) + 0.0


def total_variation(goals: Goals, num_modes: int) -> float:
    """Distance ½ Σ_m |p_m − 1/M| to the uniform law over the successful episodes; 1 when none.

    >>> total_variation([0, 0, 1, 1], 4)
    0.5
    """
    counts = goal_counts(goals, num_modes)
    if counts.sum() == 0:
        return 1.0
    return float(0.5 * np.abs(counts / counts.sum() - 1.0 / num_modes).sum())


def removal_success_rate(
    goals: Goals, num_goals: int, num_removed: int, group_size: int = 5, *, rule: str = "exact"
) -> float:
    """DrAC's removal-SR: chance that a group of episodes still finds a goal when some are removed.

    A group that hit R different goals fails iff the G − n goals that stay are all among the G − R
    it missed, so the rate is the mean over groups of 1 − C(G − R, G − n) / C(G, n), with
    n = `num_removed`; at the published n = G/2 (100 groups of 5) this is 1 − C(G − R, n) / C(G, n).
    `rule="published"` follows the published code: the last formula at any n, and R ≥ G − n
    counts as certain although one choice of removals may defeat it. Episodes beyond the last whole
    group are left out.

    >>> removal_success_rate([0, 1, 0, 1, 1], 4, 2)
    0.8333333333333334
    >>> removal_success_rate([0, 1, 0, 1, 1], 4, 2, rule="published")
    1.0
    """
    check_name("rule", rule, ("exact", "published"))
    if not 0 <= num_removed < num_goals:
        raise ValueError(f"num_removed: got {num_removed!r}, expected 0 to {num_goals - 1}")
    chances = []
    for group in _groups(goals, num_goals, group_size):
        missed = num_goals - len(np.unique(group[group >= 0]))
        if rule == "exact":
            defeats = math.comb(missed, num_goals - num_removed)
        else:
            defeats = 0 if missed <= num_removed else math.comb(missed, num_removed)
        chances.append(1.0 - defeats / math.comb(num_goals, num_removed))
    return float(np.mean(chances))


def obstacle_success_rate(goals: Goals, num_goals: int, group_size: int = 5) -> float:
    """DrAC's obstacle-SR: share of groups of episodes with at least one success, obstacles on.

    >>> obstacle_success_rate([-1, -1, 3, -1, -1, -1, -1, -1, -1, -1], 4)
    0.5
    """
    groups = _groups(goals, num_goals, group_size)
    return float(np.mean((groups >= 0).any(axis=1)))


def score_ceiling(num_goals: int, episodes: int, *, percentile: float = 5.0) -> Noise:
    """Return the `multi_goal_score` of a perfect uniform policy: exact mean, simulated percentile.

    >>> score_ceiling(4, 1000).mean.__round__(3)
    0.978
    """
    return _noise("score", num_goals, episodes, percentile)


def entropy_ceiling(num_modes: int, episodes: int, *, percentile: float = 5.0) -> Noise:
    """Return the `mode_entropy` of a perfect uniform policy: exact mean, simulated percentile.

    >>> entropy_ceiling(24, 480).mean.__round__(4)
    0.9924
    """
    return _noise("entropy", num_modes, episodes, percentile)


def total_variation_floor(num_modes: int, episodes: int, *, percentile: float = 95.0) -> Noise:
    """Return the `total_variation` of a perfect uniform policy: exact mean, simulated percentile.

    >>> total_variation_floor(24, 480).mean.__round__(3)
    0.087
    """
    return _noise("distance", num_modes, episodes, percentile)


def mmd(x: NDArray[np.floating], y: NDArray[np.floating], bandwidths: Sequence[float]) -> float:
    """Squared maximum mean discrepancy between samples (n, D) and (m, D), V-statistic, ≥ 0.

    mean k(x, x') + mean k(y, y') − 2 mean k(x, y), k the mean over bandwidths h of
    exp(−‖·‖² / 2h²) (Gretton et al. 2012). Equal laws give about (1/n + 1/m)(1 − mean k).

    >>> mmd(np.zeros((4, 2)), np.zeros((4, 2)), [1.0])
    0.0
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"x, y: got shapes {a.shape}, {b.shape}, expected (n, D) and (m, D)")
    value = _mean_kernel(a, a, bandwidths) + _mean_kernel(b, b, bandwidths)
    return max(0.0, value - 2.0 * _mean_kernel(a, b, bandwidths))


def _mean_kernel(
    a: NDArray[np.float64], b: NDArray[np.float64], bandwidths: Sequence[float]
) -> float:
    rows = max(1, _CELLS // len(b))
    total = 0.0
    for start in range(0, len(a), rows):
        squared = cdist(a[start : start + rows], b, "sqeuclidean")
        total += sum(float(np.exp(squared / (-2.0 * h * h)).sum()) for h in bandwidths)
    return total / (len(a) * len(b) * len(bandwidths))


def _groups(goals: Goals, num_goals: int, group_size: int) -> NDArray[np.int64]:
    goal_counts(goals, num_goals)
    if not 1 <= group_size <= len(goals):
        raise ValueError(f"group_size: got {group_size!r}, expected 1 to {len(goals)} episodes")
    whole = len(goals) // group_size * group_size
    return np.asarray(goals)[:whole].reshape(-1, group_size)


def _term(kind: str, num_goals: int, episodes: int) -> Callable[[NDArray], NDArray]:
    """Each score is a sum over goals of one function of the goal's count n."""
    if kind == "score":
        return lambda n: np.minimum(n / episodes, 1.0 / num_goals)
    if kind == "distance":
        return lambda n: 0.5 * np.abs(n / episodes - 1.0 / num_goals)
    scale = math.log(num_goals)
    return lambda n: -(n / episodes) * np.log(np.maximum(n, 1) / episodes) / scale


@lru_cache(maxsize=64)
def _noise(kind: str, num_goals: int, episodes: int, percentile: float) -> Noise:
    if num_goals < 2:
        raise ValueError(f"num_goals: got {num_goals!r}, expected 2 or more")
    if episodes < 1:
        raise ValueError(f"episodes: got {episodes!r}, expected 1 or more")
    if not 0.0 <= percentile <= 100.0:
        raise ValueError(f"percentile: got {percentile!r}, expected 0 to 100")
    values = _term(kind, num_goals, episodes)(np.arange(episodes + 1))
    weights = binom.pmf(np.arange(episodes + 1), episodes, 1.0 / num_goals)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(episodes, np.full(num_goals, 1.0 / num_goals), size=_DRAWS)
    scores = values[counts].sum(axis=1)
    return Noise(float(num_goals * (weights @ values)), float(np.percentile(scores, percentile)))
