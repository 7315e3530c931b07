"""Classic control without shaping: Gymnasium's dynamics, and a reward for the goal alone."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest

from vaerl.envs.unshaped import UnshapedEnv

SHAPED = {"pendulum": "Pendulum-v1", "mountain-car": "MountainCarContinuous-v0"}


@pytest.mark.parametrize("task", SHAPED)
def test_the_dynamics_are_gymnasiums(task: str) -> None:
    ours, theirs = UnshapedEnv(task), gymnasium.make(SHAPED[task])
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = rng.uniform(ours.action_space.low, ours.action_space.high).astype(np.float32)
        np.testing.assert_array_equal(ours.step(action)[0], theirs.step(action)[0])


@pytest.mark.parametrize(
    ("task", "before", "at", "ends"),
    [
        ("pendulum", [math.pi, 0.0], [0.1, 0.0], False),
        ("pendulum", [math.pi, 0.0], [2.0 * math.pi - 0.1, 0.0], False),
        ("mountain-car", [0.0, 0.0], [0.449, 0.05], True),
    ],
)
def test_only_the_goal_pays(task: str, before: Any, at: Any, ends: bool) -> None:
    env = UnshapedEnv(task)
    env.reset(seed=0)
    for state, paid in ((before, -1.0), (at, 0.0)):
        env._moved.state = np.array(state)
        _, reward, terminated, truncated, info = env.step(np.zeros(1))
        assert (reward, info["is_success"]) == (paid, paid == 0.0)
        assert terminated == (ends and paid == 0.0) and not truncated


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="task: got 'pendulm', did you mean 'pendulum'"):
        UnshapedEnv("pendulm")
