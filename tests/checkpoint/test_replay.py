"""Replay buffers and normalisers: what is saved comes back."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.runs.tiny import Corridor, corridor, trained
from vaerl.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize("steps", [60, 250])
def test_a_replay_buffer_comes_back(tmp_path: Path, steps: int) -> None:
    """The filled part, its position and its flags; before and after the ring has closed."""
    agent = trained("sb3-sac", steps, gradient_steps=0)
    save_checkpoint(agent, tmp_path, include_replay=True)
    loaded = load_checkpoint(tmp_path, Corridor(), include_replay=True)
    ours, theirs = agent.replay_buffer, loaded.replay_buffer
    assert (ours.pos, ours.full) == (theirs.pos, theirs.full) and theirs.full == (steps > 200)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    without = load_checkpoint(tmp_path, Corridor())
    assert without.replay_buffer.size() == 0
    loaded.learn(20, reset_num_timesteps=False)


def test_a_replay_buffer_is_split_into_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many files, one buffer."""
    monkeypatch.setattr("vaerl.checkpoint.replay.CHUNK_BYTES", 500)
    agent = trained("sb3-sac", 60, gradient_steps=0)
    path = save_checkpoint(agent, tmp_path, include_replay=True)
    assert len(list(path.glob("replay-*"))) > 3
    loaded = load_checkpoint(path, Corridor(), include_replay=True)
    np.testing.assert_array_equal(agent.replay_buffer.rewards, loaded.replay_buffer.rewards)


def test_hindsight_replay_comes_back(tmp_path: Path) -> None:
    """A HER buffer keeps its episodes; the unfinished one is closed. Without env it can predict."""
    env = gymnasium.make("BitFlipping-v0")
    agent = SAC(
        "MultiInputPolicy",
        env,
        buffer_size=200,
        learning_starts=20,
        batch_size=8,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2, "goal_selection_strategy": "future"},
        policy_kwargs={"net_arch": [8]},
    ).learn(40)
    save_checkpoint(agent, tmp_path, include_replay=True)
    loaded = load_checkpoint(tmp_path, env, include_replay=True)
    assert isinstance(loaded.replay_buffer, HerReplayBuffer)
    assert loaded.replay_buffer.n_sampled_goal == 2 and loaded.replay_buffer.pos == 40
    loaded.learn(20, reset_num_timesteps=False)
    obs = {key: np.stack([space.sample()]) for key, space in env.observation_space.spaces.items()}
    alone = load_checkpoint(tmp_path)
    np.testing.assert_array_equal(
        alone.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0]
    )


def test_a_normaliser_comes_back(tmp_path: Path) -> None:
    """VecNormalize's statistics are saved with the agent and put around the environment."""
    env = VecNormalize(DummyVecEnv([corridor, corridor]))
    agent = PPO("MlpPolicy", env, n_steps=16, batch_size=8, policy_kwargs={"net_arch": [8]})
    agent.learn(32)
    save_checkpoint(agent, tmp_path)
    loaded = load_checkpoint(tmp_path, DummyVecEnv([Corridor, Corridor]))
    theirs = loaded.get_vec_normalize_env()
    np.testing.assert_array_equal(theirs.returns, env.returns)
    assert theirs.ret_rms.count == env.ret_rms.count
    for other in (loaded, load_checkpoint(tmp_path)):
        np.testing.assert_array_equal(other.get_vec_normalize_env().obs_rms.mean, env.obs_rms.mean)
