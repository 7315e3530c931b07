"""Tasks of the Control Suite: what a step, an episode and an observation are."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

import vaerl.envs
from vaerl.envs.control_suite import TASKS, make_control_suite

SIZES = {"pendulum-swingup": (3, 1), "reacher-hard": (6, 2), "walker-run": (24, 6)}


@pytest.mark.parametrize("name", SIZES)
def test_a_task_is_one_row_of_numbers(name: str) -> None:
    """As large as the suite's arrays together; the same seed gives the same episode."""
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control")
    env = gymnasium.make(f"dmc/{name}-v0")
    observation, action = SIZES[name]
    assert env.observation_space.shape == (observation,) and env.action_space.shape == (action,)
    assert env.observation_space.dtype == env.action_space.dtype == np.float32
    told = []
    for seed in (3, 3, 4):
        rows = [env.reset(seed=seed)[0]]
        for step in range(20):
            row, reward, terminated, truncated, _ = env.step(np.full(action, (-1) ** step * 0.7))
            assert env.observation_space.contains(row) and 0.0 <= reward <= 1.0
            assert not terminated and not truncated
            rows.append(row)
        told.append(np.stack(rows))
    assert np.array_equal(told[0], told[1]) and not np.array_equal(told[0], told[2])


def test_an_episode_is_cut_off_after_1000_steps() -> None:
    """A step is one of the suite's: its time moves by its control timestep."""
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control")
    env = gymnasium.make("dmc/pendulum-swingup-v0")
    env.reset(seed=0)
    for step in range(1, 1001):
        _, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        assert not terminated and truncated == (step == 1000)
    physics = env.unwrapped.physics  # type: ignore[attr-defined]
    assert physics.time() == pytest.approx(1000 * 0.02, abs=1e-6)


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all ids are registered without importing it."""
    assert {f"dmc/{name}-v0" for name in TASKS} <= set(gymnasium.registry)
    assert vaerl.envs.ENVIRONMENTS
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(ValueError, match=r"env: dmc/walker-run-v0 needs dm_control .*vaerl\[dmc\]"):
        make_control_suite("walker-run")
