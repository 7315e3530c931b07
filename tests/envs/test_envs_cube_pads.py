"""CubePads: the scripted expert reaches every pad by both grasps."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

pytest.importorskip("ogbench")

from vaerl.envs.cube_pads import MIDDLE, PADS, CubePadsEnv, scripted_expert


def test_the_expert_puts_the_cube_on_its_pad() -> None:
    """Every pad, with the grasp that was asked for, within the time limit."""
    env = CubePadsEnv(render_mode="rgb_array")
    for pad in range(len(PADS)):
        grasp = pad % 2
        observation, info = env.reset(seed=pad)
        assert info["goal"] == -1 and np.linalg.norm(info["position"] - MIDDLE) < 0.07
        act = scripted_expert(pad, grasp, env)
        for _ in range(120):
            observation, reward, terminated, _, info = env.step(act(observation))
            if terminated:
                break
        assert (reward, info["goal"], info["grasp"], info["is_success"]) == (1.0, pad, grasp, True)
        assert np.linalg.norm(env.position(observation) - PADS[pad]) < 0.04
    frame = env.render()
    assert frame is not None and frame.shape == (480, 480, 3)


def test_it_is_registered_and_repeats_with_its_seed() -> None:
    env = gymnasium.make("vaerl/CubePads-v0")
    first, second = (env.reset(seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert env.observation_space.contains(first)
    with pytest.raises(ValueError, match="action: got"):
        env.unwrapped.step(np.full(5, np.nan))
