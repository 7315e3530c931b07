"""SAC with demonstrations: half of each batch, and an actor that begins as a clone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.policies.common import TinyEnv
from vaerl.agents import BC, SAC
from vaerl.agents.demonstrated import half_and_half
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.data import Demonstrations, Episode

TINY: dict[str, Any] = {"buffer_size": 100, "learning_starts": 8, "batch_size": 9, "seed": 0}
SMALL: dict[str, Any] = {"net_arch": [16]}
ENV = TinyEnv()


def shown(rewards: bool = True, rows: int = 7, terminated: bool = True) -> Demonstrations:
    """Six episodes of six steps: observation (i, t) / 10, actions to the left or right."""
    found = []
    for i in range(6):
        time = np.arange(rows)
        observations = np.stack([np.full(rows, 0.1 * i), 0.1 * time], axis=1)
        actions = np.full((6, 2), 1.0 if i % 2 else -1.0)
        actions[:, 1] = 0.1 * i
        found.append(
            Episode(
                observations,
                actions,
                np.arange(1.0, 7.0) * rewards,
                terminated=terminated,
                truncated=not terminated,
            )
        )
    return Demonstrations(found, ENV.observation_space, ENV.action_space)


def agent(data: Any = None, **options: Any) -> SAC:
    given = {**TINY, "policy_kwargs": SMALL, "device": "cpu", **options}
    return SAC("gaussian", DummyVecEnv([TinyEnv]), data=data, **given)


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("rows", [6, 7])
def test_the_second_half_of_a_batch_are_steps_of_the_demonstrations(
    terminated: bool, rows: int
) -> None:
    """Four of nine rows; actions are scaled to ±1, and only a terminated end stops the value."""
    made = agent(shown(rows=rows, terminated=terminated)).learn(20)
    kept = 6 * 6 - 6 * (rows == 6 and not terminated)
    assert made._shown.size() == kept
    batch = half_and_half(made.replay_buffer, made._shown, 900, None)
    theirs = [part[450:] for part in batch[:5]]
    observed, actions, after, done, reward = theirs
    step = (10 * observed[:, 1]).round()
    torch.testing.assert_close(reward[:, 0], step + 1, rtol=0, atol=1e-5)
    last = step == 5
    follows = torch.where(last & (rows == 6), step, step + 1)
    torch.testing.assert_close(10 * after[:, 1], follows, rtol=0, atol=1e-5)
    assert torch.equal(done[:, 0].bool(), last & terminated)
    torch.testing.assert_close(actions[:, 0].abs(), torch.full((450,), 0.5))
    ours = [part[:450] for part in batch[:5]]
    own = made.replay_buffer.observations[: made.replay_buffer.size(), 0]
    assert set(map(tuple, ours[0].tolist())) <= set(map(tuple, own.tolist()))


def test_dict_observations_are_joined_by_key() -> None:
    env = TinyEnv(dict_obs=True)
    seen = {key: np.ones((4, *box.shape), np.float32) for key, box in env.observation_space.items()}
    episode = Episode(seen, np.zeros((3, 2)), np.ones(3), terminated=True)
    data = Demonstrations([episode], env.observation_space, env.action_space)
    made = SAC("gaussian", env, data=data, policy_kwargs=SMALL, device="cpu", **TINY).learn(12)
    batch = half_and_half(made.replay_buffer, made._shown, 6, None)
    assert all((part[3:] == 1.0).all() and len(part) == 6 for part in batch.observations.values())


def test_a_loaded_agent_takes_its_demonstrations_again(tmp_path: Path) -> None:
    """They are not saved; without them it goes on from its own steps alone."""
    made = agent(shown()).learn(12)
    made.save(tmp_path / "sac")
    env = DummyVecEnv([TinyEnv])
    again = SAC.load(tmp_path / "sac", env, data=shown(), device="cpu")
    assert again._shown.size() == made._shown.size()
    assert SAC.load(tmp_path / "sac", env, data=None, device="cpu")._shown is None
    clone = BC("gaussian", ENV, shown(), chunk=2, device="cpu", policy_kwargs=SMALL)
    clone.learn(2).save(tmp_path / "bc")
    assert BC.load(tmp_path / "bc", data=shown()).learn(2).num_timesteps == 2


def test_demonstrations_teach_what_own_steps_do_not_show() -> None:
    """Rewards of 1 to 6 stand in the demonstrations alone: the critic expects more with them."""
    values = {}
    for data in (None, shown()):
        made = agent(data, learning_rate=1e-2, batch_size=32).learn(150)
        obs = torch.as_tensor(np.stack([e.observations[3] for e in shown()]), dtype=torch.float32)
        actions = torch.as_tensor(
            np.stack([e.actions[3] / 2 for e in shown()]), dtype=torch.float32
        )
        values[data is None] = float(made.critic(obs, actions)[0].detach().mean())
    assert values[False] > values[True] + 1.0


def test_the_actor_begins_as_the_clone(tmp_path: Path) -> None:
    """It goes left and right as often as the demonstrations do, within six standard errors."""
    data = shown()
    clone = BC(
        "cvae",
        ENV,
        data,
        chunk=1,
        history=1,
        seed=0,
        device="cpu",
        validation=0.0,
        policy_kwargs=SMALL,
    ).learn(400)
    made = SAC.from_clone(clone, DummyVecEnv([TinyEnv]), data=data, device="cpu", **TINY)
    seen = np.tile(data[0].observations[2], (200, 1)).astype(np.float32)
    for acting in (clone, made):
        first = acting.predict(np.concatenate([seen, seen + np.float32(0.01)]))[0][:, 0]
        assert (np.abs(np.abs(first) - 1.0) < 0.5).mean() > 0.8
    loaded = load_checkpoint(save_checkpoint(made.learn(12), tmp_path), DummyVecEnv([TinyEnv]))
    obs = seen[:5]
    made.set_random_seed(1)
    loaded.set_random_seed(1)
    np.testing.assert_allclose(loaded.predict(obs)[0], made.predict(obs)[0], rtol=0, atol=1e-6)


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data: got demonstrations without reward"):
        agent(shown(rewards=False))
    box = spaces.Box(-1.0, 1.0, (1,))
    other = Demonstrations([Episode(np.zeros((4, 1)), np.zeros((3, 1)), np.ones(3))], box, box)
    with pytest.raises(ValueError, match=r"^data: got observations of Box"):
        agent(other)
    clone = BC(
        "gaussian", ENV, shown(), chunk=2, history=1, device="cpu", policy_kwargs=SMALL
    ).learn(2)
    with pytest.raises(ValueError, match=r"^clone: got chunk 2 and history 1, expected 1 and 1"):
        SAC.from_clone(clone, DummyVecEnv([TinyEnv]), data=shown(), **TINY)
    single = BC(
        "gaussian", ENV, shown(), chunk=1, history=1, device="cpu", policy_kwargs=SMALL
    ).learn(2)
    with pytest.raises(ValueError, match=r"^data: got None, expected demonstrations"):
        SAC.from_clone(single, DummyVecEnv([TinyEnv]), **TINY)
