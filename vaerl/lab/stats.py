"""How a table reports the results of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from vaerl.stats import half_width

ENOUGH = 5
"""Seeds from which on an interquartile mean is reported."""
RESAMPLES = 2_000


def interval(values: Sequence[float], digits: int) -> str:
    """Mean ± half width of Student's 95 % interval; a single value stands alone.

    >>> interval([0.8, 0.9, 1.0], 2), interval([4.0], 1)
    ('0.90 ± 0.25', '4.0')
    """
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {half_width(values):.{digits}f}"


class InterquartileMean(NamedTuple):
    """The mean of the middle half of all scores, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Such as "0.93 [0.90, 0.95]"."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


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
    found: Any = stats.bootstrap(
        [np.asarray(scores, dtype=np.float64) for scores in tasks],
        _middle_half,
        n_resamples=RESAMPLES,
        vectorized=True,
        paired=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    value = _middle_half(*map(np.asarray, tasks))
    return InterquartileMean(float(value), float(low), float(high))


def _middle_half(*tasks: np.ndarray, axis: int = -1) -> Any:
    return stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)
