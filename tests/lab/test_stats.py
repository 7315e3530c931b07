"""Intervals and interquartile means with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vaerl.lab.stats import interquartile_mean, interval


def test_the_interval_is_students() -> None:
    """The half width is that of scipy's interval of the mean."""
    values = [0.7, 0.9, 0.8, 1.0, 0.6]
    low, high = stats.t.interval(0.95, len(values) - 1, 0.8, stats.sem(values))
    assert interval(values, 4) == f"0.8000 ± {(high - low) / 2:.4f}"


def test_the_interquartile_mean_drops_the_outer_quarters() -> None:
    """One outlier of eight scores changes nothing; equal scores have no spread."""
    tasks = [[1.0, 2.0, 3.0, 4.0, 1e9, 5.0, 6.0, 7.0]]
    assert interquartile_mean(tasks).value == pytest.approx(np.mean([3.0, 4.0, 5.0, 6.0]))
    assert interquartile_mean([[2.0] * 5, [2.0] * 6]) == (2.0, 2.0, 2.0)


def test_the_bootstrap_is_stratified() -> None:
    """Tasks far apart, without spread inside, give no spread: no task is drawn twice."""
    found = interquartile_mean([[0.0] * 5, [10.0] * 5])
    assert found == (5.0, 5.0, 5.0)


def test_the_interval_covers_the_mean_of_a_symmetric_law() -> None:
    """In 200 experiments of 20 seeds about 95 % of the intervals hold the true value, 0."""
    rng = np.random.default_rng(0)
    found = [interquartile_mean([rng.normal(size=20).tolist()], seed=i) for i in range(200)]
    covered = np.mean([each.low <= 0.0 <= each.high for each in found])
    assert 0.86 < covered <= 0.99


def test_few_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="tasks: got 4 seeds, expected at least 5"):
        interquartile_mean([[0.0] * 4])
