"""How a table reports the results of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vaerl.report.curve_figures import mean_and_interval
from vaerl.stats import half_width

Array = NDArray[np.float64]

ENOUGH = 5
"""Seeds from which on an interquartile mean is reported."""
RESAMPLES = 2_000


def interval(values: Sequence[float], digits: int) -> str:
    """Mean ± half width of Student's 95 % interval; a single value stands alone.

    >>> interval([0.8, 0.9, 1.0], 2), interval([-0.04], 1)
    ('0.90 ± 0.25', '0.0')
    """
    if len(values) == 1:
        return f"{values[0]:z.{digits}f}"
    return f"{np.mean(values):z.{digits}f} ± {half_width(values):.{digits}f}"


def middle(values: Sequence[float], digits: int) -> str:
    """The interquartile mean with its interval from `ENOUGH` values on, otherwise `interval`.

    >>> middle([1.0, 2.0, 3.0], 0), middle([2.0] * 5, 1)
    ('2 ± 2', '2.0 [2.0, 2.0]')
    """
    if len(values) < ENOUGH:
        return interval(values, digits)
    return interquartile_mean([values]).text(digits)


def middle_and_interval(runs: Array) -> tuple[Array, Array, Array]:
    """What `middle` tells, as numbers over the first axis of runs ``(seeds, …)``."""
    if len(runs) < ENOUGH:
        return mean_and_interval(runs)
    low, high = _bootstrap([runs], seed=0, axis=0)
    return _middle_half(runs, axis=0), low, high


class InterquartileMean(NamedTuple):
    """The mean of the middle half of all scores, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Such as "0.93 [0.90, 0.95]"."""
        return f"{self.value:z.{digits}f} [{self.low:z.{digits}f}, {self.high:z.{digits}f}]"


def interquartile_mean(tasks: Sequence[Sequence[float]], seed: int = 0) -> InterquartileMean:
    """Interquartile mean over all tasks and seeds (Agarwal et al. 2021).

    The bootstrap is stratified: it resamples the seeds of each task separately.

    Args:
        tasks: scores on one scale, the seeds of each task.
        seed: of the bootstrap.

    Raises:
        ValueError: a task has fewer than `ENOUGH` seeds.

    >>> interquartile_mean([[0.0, 1.0, 2.0, 3.0, 90.0, 4.0, 5.0, -90.0]]).value
    2.5
    """
    for scores in tasks:
        if len(scores) < ENOUGH:
            raise ValueError(f"tasks: got {len(scores)} seeds, expected at least {ENOUGH}")
    arrays = [np.asarray(scores, dtype=np.float64) for scores in tasks]
    low, high = _bootstrap(arrays, seed)
    return InterquartileMean(float(_middle_half(*arrays)), float(low), float(high))


def _bootstrap(tasks: Sequence[Array], seed: int, axis: int = -1) -> tuple[Array, Array]:
    """The ends of the 95 % interval, over the seeds of each task, which lie along `axis`."""
    found: Any = stats.bootstrap(
        tasks,
        _middle_half,
        n_resamples=RESAMPLES,
        vectorized=True,
        paired=False,
        axis=axis,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return found.confidence_interval


def _middle_half(*tasks: Array, axis: int = -1) -> Any:
    return stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)
