"""Metrics: closed cases, and the noise of a perfect policy against the published table."""

from __future__ import annotations

import numpy as np
import pytest

from vaerl.envs.metrics import (
    entropy_ceiling,
    goal_counts,
    goals_reached,
    mmd,
    mode_entropy,
    multi_goal_score,
    obstacle_success_rate,
    removal_success_rate,
    score_ceiling,
    success_rate,
    total_variation,
    total_variation_floor,
)


@pytest.mark.parametrize(
    ("goals", "episodes", "mean", "low"),
    [
        (4, 30, 0.873, 0.767),
        (4, 100, 0.932, 0.880),
        (4, 500, 0.969, 0.946),
        (4, 1000, 0.978, 0.961),
        (8, 80, 0.883, 0.825),
        (8, 160, 0.917, 0.875),
        (8, 1000, 0.967, 0.950),
    ],
)
def test_the_score_ceiling_reproduces_the_table(goals, episodes, mean, low):
    ceiling = score_ceiling(goals, episodes)
    assert ceiling.mean == pytest.approx(mean, abs=1.1e-3)
    assert ceiling.percentile == pytest.approx(low, abs=2e-3)


def test_entropy_ceiling_and_distance_floor_of_24_modes():
    assert entropy_ceiling(24, 480) == pytest.approx((0.9924, 0.988), abs=5e-4)
    assert entropy_ceiling(24, 100) == pytest.approx((0.9615, 0.940), abs=1.5e-3)
    assert total_variation_floor(24, 480) == pytest.approx((0.087, 0.110), abs=1e-3)
    assert total_variation_floor(24, 100) == pytest.approx((0.190, 0.242), abs=2e-3)


@pytest.mark.parametrize(
    ("ceiling", "score"),
    [
        (score_ceiling, multi_goal_score),
        (entropy_ceiling, mode_entropy),
        (total_variation_floor, total_variation),
    ],
)
def test_exact_means_agree_with_scores_of_simulated_episodes(ceiling, score):
    """The binomial formula and the score itself must tell the same mean."""
    rng = np.random.default_rng(0)
    drawn = [score(rng.integers(6, size=40), 6) for _ in range(3000)]
    error = 4.0 * np.std(drawn) / np.sqrt(len(drawn))
    assert ceiling(6, 40).mean == pytest.approx(np.mean(drawn), abs=error)
    assert ceiling(6, 40, percentile=50.0).percentile == pytest.approx(np.median(drawn), abs=0.02)


def test_scores_of_known_outcomes():
    one_mode, uniform, failed = [2] * 8, [0, 1, 2, 3] * 2, [-1] * 8
    assert [multi_goal_score(g, 4) for g in (one_mode, uniform, failed)] == [0.25, 1.0, 0.0]
    assert [goals_reached(g, 4) for g in (one_mode, uniform, failed)] == [1, 4, 0]
    assert [success_rate(g, 4) for g in (one_mode, uniform, failed)] == [1.0, 1.0, 0.0]
    assert [mode_entropy(g, 4) for g in (one_mode, uniform, failed)] == pytest.approx([0, 1, 0])
    assert [total_variation(g, 4) for g in (one_mode, uniform, failed)] == [0.75, 0.0, 1.0]
    assert goal_counts(np.array([-1, 3]), 4).tolist() == [0, 0, 0, 1]
    assert mode_entropy([0, 0], 1) == 0.0


def test_failures_lower_the_score_but_not_the_entropy():
    half = [0, 1, 2, 3, -1, -1, -1, -1]
    assert multi_goal_score(half, 4) == 0.5
    assert mode_entropy(half, 4) == pytest.approx(1.0, abs=1e-12)


def test_removal_success_equals_enumeration_of_all_removals():
    """The exact rule is the share of removals that leave a goal which the group hit."""
    from itertools import combinations

    rng = np.random.default_rng(0)
    for removed in (0, 1, 2, 3):
        goals = rng.integers(-1, 4, size=35)
        shares = []
        for group in goals.reshape(-1, 5):
            choices = list(combinations(range(4), removed))
            shares.append(np.mean([bool(set(group) - {-1} - set(c)) for c in choices]))
        got = removal_success_rate(goals, 4, removed)
        assert got == pytest.approx(np.mean(shares), abs=1e-12)


def test_the_published_removal_rule_is_kinder_at_exactly_half_the_goals():
    """At n = G/2 it differs from the exact one only where a group hit G − n goals."""
    for hit in range(1, 5):
        group = (list(range(hit)) * 5)[:5]
        exact = removal_success_rate(group, 4, 2)
        published = removal_success_rate(group, 4, 2, rule="published")
        assert published - exact == pytest.approx(1 / 6 if hit == 2 else 0.0, abs=1e-12)
    assert removal_success_rate([-1] * 5, 4, 2) == 0.0
    assert removal_success_rate([-1] * 5, 4, 2, rule="published") == 0.0
    assert removal_success_rate([1] * 5, 4, 1) == 0.75
    assert removal_success_rate([1] * 5, 4, 1, rule="published") == 0.25


def test_obstacle_success_counts_groups():
    goals = [-1] * 4 + [0] + [-1] * 5 + [1] * 5 + [2, 2]  # the two left over belong to no group
    assert obstacle_success_rate(goals, 4) == pytest.approx(2 / 3)


def test_mmd_is_small_for_equal_laws_and_large_for_others():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 2)), rng.normal(size=(300, 2))
    near, far = mmd(a, b, [1.0, 2.0]), mmd(a, b + 2.0, [1.0, 2.0])
    assert 0.0 < near < 0.01 < 0.3 < far
    kernel = np.exp(-np.square(a[:5, None] - b[:4]).sum(-1) / 2)
    within = [np.exp(-np.square(s[:, None] - s).sum(-1) / 2).mean() for s in (a[:5], b[:4])]
    direct = sum(within) - 2 * kernel.mean()
    assert mmd(a[:5], b[:4], [1.0]) == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: goal_counts([], 4), "non-empty sequence of integers"),
        (lambda: goal_counts([0.5], 4), "non-empty sequence of integers"),
        (lambda: goal_counts([4], 4), "goals: got 4, expected -1 to 3"),
        (lambda: goal_counts([-2], 4), "goals: got -2"),
        (lambda: goal_counts([0], 0), "num_goals: got 0"),
        (lambda: score_ceiling(1, 10), "num_goals: got 1"),
        (lambda: score_ceiling(4, 0), "episodes: got 0"),
        (lambda: score_ceiling(4, 10, percentile=101), "percentile: got 101"),
        (lambda: removal_success_rate([0] * 5, 4, 4), "num_removed: got 4, expected 0 to 3"),
        (lambda: removal_success_rate([0] * 5, 4, 2, rule="kind"), "rule: got 'kind'"),
        (lambda: obstacle_success_rate([0] * 3, 4), "group_size: got 5"),
        (lambda: mmd(np.zeros(3), np.zeros((3, 1)), [1.0]), "x, y: got shapes"),
    ],
)
def test_bad_arguments_raise_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
