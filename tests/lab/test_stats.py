"""Intervals and interquartile means with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vaerl.lab.stats import interquartile_mean, interval, middle_and_interval


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


def test_intervals_are_those_of_rliable() -> None:
    """Two tasks of six seeds: the same mean, and ends that differ by the draws alone."""
    rly = pytest.importorskip("rliable.library")
    iqm = pytest.importorskip("rliable.metrics").aggregate_iqm
    scores = np.random.default_rng(0).normal(size=(6, 2)) + np.array([0.0, 3.0])
    draws = np.random.RandomState(0)
    point, ends = rly.get_interval_estimates(
        {"a": scores}, lambda x: np.array([iqm(x)]), reps=2000, random_state=draws
    )
    found = interquartile_mean(scores.T.tolist())
    assert found.value == pytest.approx(point["a"][0])
    # a quantile of 2000 draws has a deviation of about 0.1 deviations of the bootstrap
    width = ends["a"][1, 0] - ends["a"][0, 0]
    np.testing.assert_allclose(found[1:], ends["a"][:, 0], rtol=0.0, atol=0.12 * width)


def test_a_band_is_the_interval_at_each_step() -> None:
    """From five seeds on that of the interquartile mean, before that Student's."""
    runs = np.random.default_rng(1).normal(size=(5, 3))
    middle, low, high = middle_and_interval(runs)
    for step in range(3):
        found = interquartile_mean([runs[:, step].tolist()])
        assert middle[step] == pytest.approx(found.value)
        width = found.high - found.low
        np.testing.assert_allclose([low[step], high[step]], found[1:], rtol=0.0, atol=0.12 * width)
    middle, low, high = middle_and_interval(runs[:4])
    half = stats.t.ppf(0.975, 3) * stats.sem(runs[:4])
    np.testing.assert_allclose(high - middle, half)
    np.testing.assert_allclose(middle - low, half)
