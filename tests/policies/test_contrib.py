"""Policies in unmodified sb3-contrib: TQC and CrossQ over any density."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from sb3_contrib import TQC, CrossQ
from stable_baselines3.her import HerReplayBuffer

from tests.policies.common import ACT, DENSITIES, DICT_OBS, OBS, TinyEnv, observations, schedule
from vaerl.policies.contrib import CrossQPolicy, TQCPolicy

PAIRS: list[Any] = [(TQC, TQCPolicy), (CrossQ, CrossQPolicy)]
FAST: dict[str, Any] = {
    "learning_starts": 16,
    "batch_size": 16,
    "buffer_size": 256,
    "seed": 0,
    "device": "cpu",
}


def agent(cls: Any, policy: Any, density: str = "cvae", env: Any = None, **options: Any) -> Any:
    """A small agent of sb3-contrib."""
    kwargs = {"net_arch": [16], "density": density, **options.pop("policy_kwargs", {})}
    return cls(policy, env or TinyEnv(), policy_kwargs=kwargs, **(FAST | options))


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize(("cls", "policy"), PAIRS)
def test_every_density_learns_and_every_parameter_moves(
    cls: Any, policy: Any, density: str
) -> None:
    """Actor and critics, over updates of the unmodified agent; α too."""
    made = agent(cls, policy, density)
    before = {k: v.detach().clone() for k, v in made.policy.named_parameters()}
    made.learn(24)
    still = [k for k, v in made.policy.named_parameters() if torch.equal(v, before[k])]
    assert not [name for name in still if "target" not in name]
    assert made.log_ent_coef.item() != 0.0


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
@pytest.mark.parametrize(("cls", "policy"), PAIRS)
def test_save_perturb_load_continue(cls: Any, policy: Any, density: str, tmp_path: Path) -> None:
    """Every number comes back from the zip, with shared features too."""
    made = agent(cls, policy, density, policy_kwargs={"share_features_extractor": True}).learn(20)
    with torch.no_grad():
        for parameter in made.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.save(tmp_path / "agent.zip")
    loaded = cls.load(tmp_path / "agent.zip", device="cpu")
    for name, value in made.policy.state_dict().items():
        assert torch.equal(value, loaded.policy.state_dict()[name]), name
    obs = made.get_env().reset()
    for deterministic in (True, False):
        expected = made.predict(obs, deterministic=deterministic)[0]
        assert np.array_equal(loaded.predict(obs, deterministic=deterministic)[0], expected)
    loaded.set_env(made.get_env())
    loaded.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize("policy", [TQCPolicy, CrossQPolicy])
def test_constructor_parameters_make_the_policy_again(policy: Any) -> None:
    """With the values it has."""
    made = policy(OBS, ACT, schedule, net_arch=[8], density="cvae", num_candidates=5, noise_hold=3)
    given = made._get_constructor_parameters()
    again = policy(**given)
    assert again._get_constructor_parameters() == given
    assert again.actor.num_candidates == 5 and again.actor.holds.noise == 3
    again.load_state_dict(made.state_dict())
    obs = observations(OBS, 4)
    assert torch.equal(made(obs, True), again(obs, True))


@pytest.mark.parametrize(("cls", "policy"), PAIRS)
def test_critics_are_sb3_contribs(cls: Any, policy: Any) -> None:
    """Of its classes, with its defaults; in CrossQ the optimisers have its momentum."""
    ours = agent(cls, policy, policy_kwargs={"net_arch": None})
    theirs = cls("MlpPolicy", TinyEnv(), **FAST)
    assert type(ours.critic) is type(theirs.critic)
    shapes = [[p.shape for p in a.critic.parameters()] for a in (ours, theirs)]
    assert shapes[0] == shapes[1]
    for part in ("actor", "critic"):
        betas = [getattr(a, part).optimizer.defaults["betas"] for a in (ours, theirs)]
        assert betas[0] == betas[1]


def test_tqc_takes_dict_observations_and_hindsight() -> None:
    """As SAC does."""
    agent(TQC, TQCPolicy, env=TinyEnv(dict_obs=True)).learn(20)
    from stable_baselines3.common.envs import BitFlippingEnv

    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=3)
    made = agent(TQC, TQCPolicy, env=env, replay_buffer_class=HerReplayBuffer)
    made.learn(30)


def test_what_cannot_work_is_refused_when_built() -> None:
    """In one line that says why."""
    with pytest.raises(ValueError, match=r"observation_space: got a Dict, expected a Box: sb3-co"):
        agent(CrossQ, CrossQPolicy, env=TinyEnv(dict_obs=True))
    with pytest.raises(ValueError, match=r"observation_space: got a Dict"):
        CrossQPolicy(DICT_OBS, ACT, schedule)
    for cls, policy in PAIRS:
        with pytest.raises(ValueError, match=r"use_sde: got True, expected False: gSDE"):
            agent(cls, policy, use_sde=True)
        with pytest.raises(ValueError, match=r"density: got 'cvea', did you mean 'cvae'"):
            agent(cls, policy, density="cvea")
        with pytest.raises(ValueError, match=rf"policy: got {policy.__name__} for SAC"):
            stable_baselines3.SAC(policy, TinyEnv(), **FAST)
    with pytest.raises(ValueError, match=r"policy: got TQCPolicy for CrossQ"):
        agent(CrossQ, TQCPolicy)


@pytest.mark.parametrize(
    ("cls", "calls"),
    [
        (TQC, ["actor.action_log_prob(replay_data.observations)", "self.critic_target("]),
        (CrossQ, ["self.actor.set_bn_training_mode(", "self.critic.set_bn_training_mode("]),
    ],
)
def test_what_these_agents_ask_of_a_policy(cls: Any, calls: list[str]) -> None:
    """The calls in their update that the policies answer are still there."""
    source = inspect.getsource(cls.train)
    assert all(call in source for call in calls)
