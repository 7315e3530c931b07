"""DrAC's point mass against its definition."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vaerl.envs.point_mass import PointMassEnv, stop_at_walls

DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])


def follow(env, move, steps=50):
    """Repeat one action until the episode ends; gives return, steps and the last info."""
    total = 0.0
    for step in range(1, steps + 1):
        _, reward, terminated, truncated, info = env.step(move)
        total += reward
        if terminated or truncated:
            return total, step, terminated, info
    return total, steps, False, info


@pytest.mark.parametrize("metric", ["chebyshev", "euclidean"])
def test_straight_paths_return_19_to_20(metric):
    """9 − (−1)… of distance plus 10: 19 when the last step ends on the border, near 20 at best."""
    env = PointMassEnv(metric=metric)
    for goal, direction in enumerate(DIRECTIONS):
        env.reset()
        total, steps, terminated, info = follow(env, direction.astype(float))
        assert (steps, terminated, info["goal"]) == (9, True, goal)
        assert total == pytest.approx(19.0, abs=1e-9)
    env.reset(options={"state": [0.0, 0.0]})
    total, steps, _, _ = follow(env, np.array([0.9989, 0.0]))
    assert steps == 10 and 19.9 < total < 20.0


def test_sparse_reward_pays_ten_for_the_goal_only():
    env = PointMassEnv(reward="sparse")
    env.reset()
    assert follow(env, np.array([1.0, 0.0]))[:2] == (10.0, 9)


def test_a_goal_is_reached_by_the_ten_points_of_the_move():
    """A fast move that only grazes the region counts iff one of its ten points lies inside."""
    env = PointMassEnv()
    for start, move, inside in (
        ([8.95, 0.9], [0.1, 0.0], True),
        ([8.85, 0.0], [0.1, 0.0], False),
        ([8.85, 1.85], [1.0, -1.0], True),
        ([8.5, -1.4], [0.6, -0.6], False),
        ([8.88, 0.92], [0.125, 0.9], False),  # clips the corner between two of the ten points
    ):
        env.reset(options={"state": start})
        _, _, terminated, _, info = env.step(np.array(move))
        points = np.array(start) + np.arange(1, 11)[:, None] / 10 * np.array(move)
        truth = (np.abs(points - [10.0, 0.0]).max(axis=1) <= 1.0).any()
        assert terminated is inside and truth == inside, start
        assert info["goal"] == (0 if inside else -1)


def test_metrics_differ_on_the_diagonal():
    """Chebyshev reaches a goal's corner that lies outside the Euclidean disc."""
    for metric, inside in (("chebyshev", True), ("euclidean", False)):
        env = PointMassEnv(metric=metric)
        env.reset(options={"state": [9.1, 0.9]})
        assert env.step(np.array([0.01, 0.0]))[2] is inside


def test_leaving_the_square_truncates():
    env = PointMassEnv()
    env.reset(options={"state": [19.5, 19.5]})
    observation, reward, terminated, truncated, _ = env.step(np.array([1.0, 0.0]))
    assert (terminated, truncated) == (False, True)
    assert env.observation_space.contains(observation)
    assert reward == pytest.approx(0.0, abs=1e-12)  # the Chebyshev distance is 19.5 either way
    env.reset(options={"state": [19.0, 19.5]})
    assert env.step(np.array([1.0, 0.0]))[2:4] == (False, False)


def test_walls_stop_a_move_at_the_crossing_from_both_sides():
    env = PointMassEnv(obstacles=True)
    for x in (5.0, -5.0):
        side = np.sign(x)
        for start, move, end in (
            ([x - 0.5 * side, 1.0], [1.0 * side, 0.5], [x, 1.25]),
            ([x + 0.5 * side, 1.0], [-1.0 * side, 0.5], [x, 1.25]),
            ([x - 0.5 * side, 1.9], [1.0 * side, 0.5], [x + 0.5 * side, 2.4]),
        ):
            env.reset(options={"state": start})
            np.testing.assert_allclose(env.step(np.array(move))[0], end, atol=1e-6)
    env.reset()
    _, steps, _, info = follow(env, np.array([1.0, 0.1]))
    assert steps == 50 and not info["is_success"]
    assert PointMassEnv().obstacles == ()


def test_the_wall_before_a_goal_is_turned_as_the_goal_is():
    """Straight to a goal, the way ends at its wall; the other goals stay free."""
    for goal, direction in enumerate(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])):
        for wall in range(4):
            env = PointMassEnv(obstacles=[wall])
            env.reset()
            for _ in range(9):
                env.step(direction)
            np.testing.assert_allclose(
                env._state, (5.0 if wall == goal else 9.0) * direction, atol=1e-6
            )
    with pytest.raises(ValueError, match="obstacles: got 4, expected 0 to 3"):
        PointMassEnv(obstacles=[4])


def test_no_sequence_of_moves_passes_through_a_wall():
    """Whoever changes sides does so where the wall is not (the crossing's |y| is at least 2)."""
    rng = np.random.default_rng(0)
    place, crossings = np.array([4.0, 0.0]), 0
    for _ in range(20_000):
        move = rng.uniform(-1.0, 1.0, 2) - 0.1 * (place - [5.0, 0.0]).clip(-2, 2)
        after = stop_at_walls(place, place + move)
        if (place[0] - 5.0) * (after[0] - 5.0) < 0:
            share = (5.0 - place[0]) / (after[0] - place[0])
            assert abs(place[1] + share * (after[1] - place[1])) >= 2.0
            crossings += 1
        place = after
    assert crossings > 100


def test_removed_goals_neither_pay_nor_end_and_indices_stay():
    env = PointMassEnv(removed_goals=(0,))
    env.reset()
    total, steps, _, info = follow(env, np.array([1.0, 0.0]))
    assert steps == 21 and info["goal"] == -1 and total < 0
    env.reset()
    assert follow(env, np.array([-1.0, 0.0]))[3]["goal"] == 1


def test_the_registered_environment_stops_after_50_steps():
    env = gymnasium.make("vaerl/PointMass-v0")
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(50)]
    assert flags[-1] == (False, True) and not any(any(flag) for flag in flags[:-1])
