"""The 40-mode bandit: data, exact density, and metrics against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vaerl.envs.bandit import (
    LOG_THRESHOLD_95,
    LOG_THRESHOLD_99,
    MEANS,
    STD,
    Bandit40Env,
    bandit_metrics,
    log_prob,
    modes_hit,
    sample,
)


@pytest.fixture(scope="module")
def grid():
    """Midpoints of a 500 × 500 grid over the box: log-densities and the cell's area."""
    step = 80.0 / 500
    line = -40.0 + step * (np.arange(500) + 0.5)
    points = np.stack(np.meshgrid(line, line), axis=-1)
    return np.stack([log_prob(row) for row in points]), step**2


def test_the_means_are_torchs_draw_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    drawn = 40.0 * (2.0 * torch.rand((40, 2), generator=generator) - 1.0)
    np.testing.assert_array_equal(MEANS.astype(np.float32), drawn.numpy())
    assert torch.nn.functional.softplus(torch.tensor(1.0)).item() == pytest.approx(STD, rel=1e-6)


def test_log_prob_equals_torchs_mixture():
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(40, dtype=torch.float64)),
        torch.distributions.Independent(
            torch.distributions.Normal(torch.tensor(MEANS), torch.tensor(STD)), 1
        ),
    )
    points = np.random.default_rng(0).uniform(-60, 60, (5, 7, 2))
    expected = mixture.log_prob(torch.tensor(points)).numpy()
    np.testing.assert_allclose(log_prob(points), expected, rtol=1e-6)


def test_mass_and_entropy_in_the_box(grid):
    """Mass .982673; entropy 6.835 ± .002 in x, −.543 in a = x / 40 (definition of the protocol)."""
    values, area = grid
    density = np.exp(values) * area
    mass = density.sum()
    entropy = -(density * values).sum() / mass + math.log(mass)
    assert mass == pytest.approx(0.982673, abs=3e-5)
    assert entropy == pytest.approx(6.835, abs=0.002)
    assert entropy - 2.0 * math.log(40.0) == pytest.approx(-0.543, abs=0.002)


def test_thresholds_bound_the_99_and_95_percent_regions(grid):
    values, area = grid
    share = np.exp(values) * area
    share /= share.sum()
    assert share[values < LOG_THRESHOLD_99].sum() == pytest.approx(0.0102, abs=2e-4)
    assert share[values < LOG_THRESHOLD_95].sum() == pytest.approx(0.0509, abs=3e-4)


def test_the_target_itself_scores_the_truth():
    """Shares of about 1.0, 5.1 and .76 % and all 40 modes, from samples of the target."""
    points = sample(100_000, np.random.default_rng(0))
    assert (np.abs(points) <= 40.0).all() and points.shape == (100_000, 2)
    scores = bandit_metrics(points)
    assert scores["modes"] == 40
    assert scores["outside_99"] == pytest.approx(0.0102, abs=0.0012)
    assert scores["outside_95"] == pytest.approx(0.0509, abs=0.0025)
    assert scores["outside_3std"] == pytest.approx(0.0076, abs=0.0012)
    assert 0.0 <= scores["mmd"] < 0.003


def test_collapse_shows_in_the_modes_and_mmd_although_the_shares_look_perfect():
    scores = bandit_metrics(MEANS[3] + 0.5 * np.random.default_rng(0).normal(size=(2000, 2)))
    assert scores["outside_99"] == scores["outside_3std"] == 0.0
    assert scores["modes"] <= 3 and scores["mmd"] > 0.1


def test_a_uniform_policy_covers_all_modes_and_wastes_most_samples():
    scores = bandit_metrics(np.random.default_rng(0).uniform(-40, 40, (10_000, 2)))
    assert scores["modes"] == 40 and scores["outside_95"] > 0.5


def test_modes_are_counted_by_the_nearest_mean_within_three_std():
    apart = np.linalg.norm(MEANS[:, None] - MEANS, axis=-1) + 1e9 * np.eye(40)
    assert apart.min() == pytest.approx(1.18, abs=0.005)
    assert modes_hit(MEANS).tolist() == list(range(40))
    lonely = int(apart.min(axis=1).argmax())
    outward = np.array([3.0 * STD, 0.0])
    assert modes_hit(MEANS[lonely] + 0.999 * outward) == lonely
    assert modes_hit(MEANS[lonely] + 1.001 * outward) == -1


def test_an_episode_is_one_step_and_pays_the_log_density():
    env = Bandit40Env()
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [0.0]
    action = np.array([0.3, -0.7])
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation.tolist() == [0.0] and (terminated, truncated) == (True, False)
    assert reward == pytest.approx(float(log_prob(40.0 * action)), rel=1e-12)
    np.testing.assert_allclose(info["position"], 40.0 * action, rtol=1e-12)
    assert info["goal"] == int(modes_hit(40.0 * action))


def test_a_removed_mode_neither_pays_nor_counts():
    """The others become a mixture in equal parts, and keep their indices."""
    env, whole = Bandit40Env(removed_goals=(3,)), Bandit40Env()
    distance = np.linalg.norm(MEANS - MEANS[3], axis=-1)
    far = int(distance.argmax())
    rewards = {}
    for mode in (3, far):
        for each in (env, whole):
            each.reset(seed=0)
            rewards[each, mode], info = (each.step(MEANS[mode] / 40.0)[i] for i in (1, 4))
            assert info["goal"] == (mode if each is whole or mode == far else -1)
    assert rewards[env, 3] < rewards[whole, 3] - 10.0
    assert rewards[env, far] == pytest.approx(rewards[whole, far] + np.log(40 / 39), rel=1e-9)
    with pytest.raises(ValueError, match=r"removed_goals: got 40, expected 0 to 39"):
        Bandit40Env(removed_goals=(40,))


def test_metrics_refuse_a_wrong_shape():
    with pytest.raises(ValueError, match=r"x: got shape \(3,\), expected \(n, 2\)"):
        bandit_metrics(np.zeros(3))
