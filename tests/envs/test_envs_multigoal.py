"""SQL's MultiGoal against its definition and the best straight path."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vaerl.envs.multigoal import MultiGoalEnv


def best_straight_path(threshold, steps):
    """Moves a_1..a_n along an axis that end on the goal's border at least cost.

    x_t = a_1 + … + a_t minimises Σ 30 a_t² + Σ (5 − x_t)² with x_n = 5 − ρ, so that inside
    122 x_t − 60 x_{t−1} − 60 x_{t+1} = 10: a tridiagonal system.
    """
    end, inner = 5.0 - threshold, steps - 1
    matrix = 122.0 * np.eye(inner) - 60.0 * (np.eye(inner, k=1) + np.eye(inner, k=-1))
    right = np.full(inner, 10.0)
    right[-1] += 60.0 * end
    places = np.concatenate([[0.0], np.linalg.solve(matrix, right), [end]])
    moves = np.diff(places)
    cost = 30.0 * np.square(moves).sum() + np.square(5.0 - places[1:]).sum()
    return 10.0 - cost, moves


@pytest.mark.parametrize(
    ("variant", "oracle", "best_steps"), [("sql", -110.03, 9), ("s2ac-4", -113.8, 13)]
)
def test_the_best_straight_path_returns_the_oracle_value(variant, oracle, best_steps):
    """−110.03 in 9 steps, −113.8 in 13 with the smaller threshold; other lengths are worse."""
    env = MultiGoalEnv(variant, start_std=0.0)
    values = {n: best_straight_path(env.done_threshold, n)[0] for n in range(5, 20)}
    assert max(values, key=values.get) == best_steps
    _, moves = best_straight_path(env.done_threshold, best_steps)
    moves[-1] += 1e-6  # the goal's border itself does not count
    for goal, direction in enumerate(np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])):
        env.reset(seed=0)
        total = 0.0
        for step, move in enumerate(moves):
            _, reward, terminated, _, info = env.step(move * direction)
            total += reward
            assert terminated is (step == best_steps - 1)
        assert info["goal"] == goal
        assert total == pytest.approx(oracle, abs=0.05)
        assert total == pytest.approx(values[best_steps], abs=1e-4)


def test_reward_and_move_are_those_of_the_definition():
    env = MultiGoalEnv()
    env.reset(options={"state": [1.0, 2.0]})
    observation, reward, terminated, _, _ = env.step(np.array([0.5, -0.25]))
    np.testing.assert_allclose(observation, [1.5, 1.75], rtol=1e-7)
    nearest = min((1.5 - x) ** 2 + (1.75 - y) ** 2 for x, y in env.goal_positions)
    assert reward == pytest.approx(-30 * (0.25 + 0.0625) - nearest, rel=1e-12)
    assert not terminated


def test_walls_clip_the_move_but_not_its_cost():
    env = MultiGoalEnv()
    env.reset(options={"state": [6.9, 6.9]})
    observation, reward, *_ = env.step(np.array([1.0, 1.0]))
    assert observation.tolist() == [7.0, 7.0]
    assert reward == pytest.approx(-60.0 - (4.0 + 49.0), rel=1e-12)


@pytest.mark.parametrize(("variant", "inside"), [("sql", 4.01), ("s2ac-4", 4.51), ("s2ac-3", 4.51)])
def test_an_episode_ends_just_inside_the_threshold_only(variant, inside):
    env = MultiGoalEnv(variant)
    for x, ends in ((inside, True), (inside - 0.02, False)):
        env.reset(options={"state": [x, 0.0]})
        _, _, terminated, _, info = env.step(np.zeros(2))
        assert (terminated, info["goal"]) == ((True, 0) if ends else (False, -1))


def test_starts_follow_the_variant():
    """SQL draws N(0, 0.1² I); S2AC never uses its init_sigma."""
    env = MultiGoalEnv()
    starts = np.array([env.reset(seed=seed)[0] for seed in range(400)])
    np.testing.assert_allclose(starts.std(axis=0), 0.1, rtol=0.15)
    np.testing.assert_allclose(starts.mean(axis=0), 0.0, atol=0.02)
    for variant in ("s2ac-3", "s2ac-4"):
        assert MultiGoalEnv(variant).reset(seed=1)[0].tolist() == [0.0, 0.0]
    assert MultiGoalEnv("s2ac-3").goal_positions.tolist() == [[5, 0], [-4, 3], [-4, -3]]
    assert "(2.5, 2.5)" in MultiGoalEnv("s2ac-4").probe_observations()
    assert "(-3.5, -2.5)" in MultiGoalEnv("s2ac-3").probe_observations()


def test_the_registered_environment_stops_after_100_steps():
    env = gymnasium.make("vaerl/MultiGoal-v0")
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(100)]
    assert flags[-1] == (False, True) and not any(any(flag) for flag in flags[:-1])
