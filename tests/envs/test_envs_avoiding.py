"""Avoiding: geometry, mode code and the scripted expert."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from vaerl.envs.avoiding import (
    DEAD_ZONE,
    FULL_SPEED,
    GAPS,
    POSTS,
    AvoidingEnv,
    mode_code,
    mode_gaps,
    scripted_expert,
)
from vaerl.envs.avoiding_expert import record_demonstrations
from vaerl.envs.metrics import mode_entropy


@pytest.fixture(scope="module")
def plain():
    """96 demonstrations at full speed without dead zone: the measured setting."""
    return record_demonstrations(4, seed=0, vary_speed=False, dead_zone=False)


def test_the_scripted_expert_succeeds_in_all_24_modes(plain):
    """96 of 96 right-mode successes at k = 0.5, within 79 to 132 steps."""
    assert len(plain) == 96 and all(d.success for d in plain)
    lengths = [len(d.actions) for d in plain]
    assert min(lengths) >= 75 and max(lengths) <= 132
    assert mode_entropy([d.mode for d in plain], 24) == pytest.approx(1.0, abs=1e-12)


def test_gamepad_like_demonstrations_have_an_atom_at_zero():
    """Each axis is 0 or 0.005 to 1/120 a step; the routes still succeed."""
    demonstrations = record_demonstrations(2, seed=1)
    assert sum(d.success for d in demonstrations) >= 47
    actions = np.abs(np.concatenate([d.actions for d in demonstrations]))
    moving = actions[actions > 0]
    assert moving.min() >= DEAD_ZONE - 1e-6 and moving.max() <= FULL_SPEED + 1e-6
    assert ((actions == 0).mean(axis=0) > 0.1).all()


def test_demonstrations_replay_and_repeat(plain):
    """Actions recorded in float32 lead through the recorded observations; a seed gives one set."""
    env = AvoidingEnv()
    demonstration = plain[37]
    observation, _ = env.reset()
    for expected, action in zip(demonstration.observations, demonstration.actions, strict=False):
        np.testing.assert_array_equal(observation, expected)
        observation, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["goal"]) == (1.0, True, demonstration.mode)
    again = record_demonstrations(4, seed=0, vary_speed=False, dead_zone=False)
    np.testing.assert_array_equal(again[37].actions, demonstration.actions)
    other = record_demonstrations(1, seed=2, vary_speed=False, dead_zone=False)
    assert not np.array_equal(other[0].actions, plain[0].actions)


def test_the_rod_follows_the_desired_point():
    env = AvoidingEnv(tracking=0.3)
    env.reset()
    observation, *_ = env.step(np.array([0.004, 0.02]))  # clipped to 0.01
    np.testing.assert_allclose(observation, [0.529, -0.27, 0.5262, -0.277], atol=1e-6)
    observation, *_ = env.step(np.zeros(2))
    np.testing.assert_allclose(observation[2:], [0.52704, -0.2749], atol=1e-6)


@pytest.mark.parametrize("post", range(6))
def test_contact_is_the_sum_of_the_radii(post):
    x, y, radius = POSTS[post]
    env = AvoidingEnv(tracking=1.0)
    for gap, hit in ((-1e-4, True), (1e-4, False)):
        place = [x + radius + 0.01 + gap, y]
        env.reset(options={"state": [0.3, 0.0, 0.3, 0.0]})
        env._state = np.array(place * 2)
        _, reward, terminated, _, info = env.step(np.zeros(2))
        assert (terminated, reward, info["is_success"]) == (hit, 0.0, False)
    with pytest.raises(ValueError, match="expected a rod that touches no post"):
        env.reset(options={"state": [x, y, x, y]})


def test_success_is_beyond_035():
    env = AvoidingEnv(tracking=1.0)
    for y, done in ((0.3495, False), (0.3505, True)):
        env.reset(options={"state": [0.2, y, 0.2, y]})
        _, reward, terminated, _, info = env.step(np.zeros(2))
        assert (terminated, reward, info["is_success"]) == (done, float(done), done)
        assert info["goal"] == -1, "a way whose first rows were skipped has no mode"


def test_each_row_is_noted_once_where_the_rod_first_enters_its_band():
    env = AvoidingEnv(tracking=1.0)
    env.reset(options={"state": [0.45, -0.135, 0.45, -0.135]})
    assert env.step(np.array([0.0, 0.004]))[4]["gaps"] == (-1, -1, -1)
    assert env.step(np.array([0.0, 0.002]))[4]["gaps"] == (0, -1, -1)
    for _ in range(8):  # back out, to the right, and in again: the first entry counts
        env.step(np.array([0.0, -0.01]))
    for _ in range(10):
        env.step(np.array([0.01, 0.0]))
    for _ in range(9):
        info = env.step(np.array([0.0, 0.01]))[4]
    assert info["position"][0] > 0.5 and info["gaps"] == (0, -1, -1)
    for row, middle in ((0, -0.1), (1, 0.08)):  # within 0.03 of the row, on both sides
        for y, noted in ((-0.031, False), (-0.029, True), (0.029, True), (0.031, False)):
            env.reset(options={"state": [0.3, middle + y] * 2})
            assert (env.step(np.zeros(2))[4]["gaps"][row] == 0) is noted
    for x, gap in ((0.4, 0), (0.5, 1), (0.6, 2)):
        env.reset(options={"state": [x, 0.045, x, 0.045]})
        assert env.step(np.array([0.0, 0.01]))[4]["gaps"] == (-1, gap, -1)
    for x, gap in ((0.3, 0), (0.42, 1), (0.58, 2), (0.7, 3)):
        env.reset(options={"state": [x, 0.255, x, 0.255]})
        assert env.step(np.array([0.0, 0.01]))[4]["gaps"] == (-1, -1, gap)
    assert env.reset()[1]["gaps"] == (-1, -1, -1)


def test_mode_codes_and_gaps_are_inverse():
    assert [mode_code(mode_gaps(mode)) for mode in range(24)] == list(range(24))
    assert {mode_gaps(mode) for mode in range(24)} == {
        (a, b, c) for a in range(GAPS[0]) for b in range(GAPS[1]) for c in range(GAPS[2])
    }
    with pytest.raises(ValueError, match="mode: got 24, expected 0 to 23"):
        scripted_expert(24, np.random.default_rng(0))
    with pytest.raises(ValueError, match="speed: got"):
        scripted_expert(0, np.random.default_rng(0), speed=0.02)
    with pytest.raises(ValueError, match="per_mode: got 0"):
        record_demonstrations(0)


def test_the_registered_environment_stops_after_250_steps():
    env = gymnasium.make("vaerl/Avoiding-v0")
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(250)]
    assert flags[-1] == (False, True) and not any(any(flag) for flag in flags[:-1])
