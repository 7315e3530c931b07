"""Policy classes and files of SB3 itself in agents of vaerl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.sac.policies import SACPolicy

from tests.policies.common import TinyEnv
from vaerl.agents import A2C, PPO, SAC

FAST: dict[str, dict[str, Any]] = {
    "SAC": {"learning_starts": 16, "batch_size": 16, "buffer_size": 256},
    "PPO": {"n_steps": 8, "batch_size": 8, "n_epochs": 2},
    "A2C": {"n_steps": 8},
}
OURS: dict[str, Any] = {"SAC": SAC, "PPO": PPO, "A2C": A2C}
STOCK: dict[str, Any] = {"SAC": SACPolicy, "PPO": ActorCriticPolicy, "A2C": ActorCriticPolicy}


def make(name: str, ours: bool = True, **options: Any) -> Any:
    cls = OURS[name] if ours else getattr(stable_baselines3, name)
    return cls(
        STOCK[name], TinyEnv(), policy_kwargs={"net_arch": [8]}, seed=0, **FAST[name], **options
    )


def assert_alike(first: Any, second: Any) -> None:
    theirs = second.policy.state_dict()
    for name, value in first.policy.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("options", [{}, {"use_sde": True}])
@pytest.mark.parametrize("name", OURS)
def test_a_stock_policy_learns_what_it_learns_in_sb3(name: str, options: dict[str, Any]) -> None:
    """The same numbers from the same seed, gSDE included."""
    ours, theirs = (make(name, own, **options).learn(40) for own in (True, False))
    assert_alike(ours, theirs)


@pytest.mark.parametrize("name", OURS)
def test_a_file_of_sb3_acts_and_learns_on(name: str, tmp_path: Path) -> None:
    saved = make(name, ours=False).learn(24)
    saved.save(tmp_path / "sb3.zip")
    loaded = OURS[name].load(tmp_path / "sb3.zip", env=TinyEnv())
    obs = np.ones((3, 2), np.float32)
    expected = saved.predict(obs, deterministic=True)[0]
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], expected)
    assert np.isfinite(evaluate_policy(loaded, TinyEnv(), 2, warn=False)).all()
    assert loaded.learn(40, reset_num_timesteps=False).num_timesteps == 64
    loaded.save(tmp_path / "ours.zip")
    again = OURS[name].load(tmp_path / "ours.zip")
    assert_alike(again, loaded)


@pytest.mark.parametrize("name", OURS)
def test_what_only_a_density_has_is_refused_in_one_line(name: str) -> None:
    agent, obs = make(name), np.ones((3, 2), np.float32)
    for ask in (
        lambda: agent.predict(obs, codes=np.zeros(2)),
        lambda: agent.density_value(obs),
        lambda: agent.latent_diagnostics(obs),
    ):
        with pytest.raises(ValueError, match=r"policy: got .*, expected one over a density"):
            ask()
    with pytest.raises(ValueError, match=r"normalize_observations: got True with policy .*Policy"):
        make(name, normalize_observations=True)
    make(name, normalize_observations=False)


def test_critics_of_another_kind_need_a_density() -> None:
    with pytest.raises(ValueError, match="critic: got 'simba' with policy SACPolicy, expected 's"):
        make("SAC", critic="simba")
