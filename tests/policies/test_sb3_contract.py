"""What the policies rest on in Stable-Baselines3, and what they leave alone there."""

from __future__ import annotations

import hashlib
import inspect
import json
import subprocess
import sys

import pytest
import torch
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy as SB3ActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.sac.policies import SACPolicy as SB3SACPolicy

from tests.policies.common import ac_policy, observations, sac_policy
from vaerl.policies import ActorCriticPolicy, SACPolicy

# First 16 digits of the SHA-256 of the source in 2.9.2. A change means: read that function again,
# and what overrides or relies on it here, then put the new number.
SOURCES = {
    PPO.train: "7c8d09940123242f",
    A2C.train: "298ebd063ccbd989",
    SAC.train: "0ac7abe1c18ba7fe",
    TD3.train: "4f3638f813b0efba",
    OnPolicyAlgorithm.collect_rollouts: "07f9eed35d9d7392",
    OffPolicyAlgorithm.collect_rollouts: "2210891104720d7c",
    BaseAlgorithm.save: "c7b1113e7105b177",
    BaseAlgorithm.load: "d069b9b05c128cbd",
    SB3ActorCriticPolicy._build: "262b19d3fff0d200",
    SB3ActorCriticPolicy.__init__: "db3b2cd6a224ea78",
    SB3ActorCriticPolicy.forward: "a105334089d8fc44",
    SB3ActorCriticPolicy.evaluate_actions: "064f423282536b39",
    BasePolicy.predict: "47903eef7db6a63f",
    SB3SACPolicy._build: "f5fe34ab04dba7d2",
    SB3SACPolicy.__init__: "9c92bd62f360d5d6",
    SB3SACPolicy.set_training_mode: "ba62c3a3e4cb08bc",
}


@pytest.mark.parametrize("function", SOURCES, ids=lambda f: f.__qualname__)
def test_sb3_source_is_the_one_that_was_read(function) -> None:
    """An upstream change is noticed by name."""
    digest = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    assert digest == SOURCES[function], f"{function.__qualname__} changed: read it again"


@pytest.mark.parametrize("make", [sac_policy, ac_policy])
def test_constructor_parameters_are_complete(make) -> None:
    """What a policy says about itself is what its constructor takes, with the values it has."""
    policy = make(
        "cvae",
        density_kwargs={"latent_dims": (2,)},
        num_candidates=5,
        share_features_extractor=make is sac_policy,
    )
    data = policy._get_constructor_parameters()
    assert set(data) == set(inspect.signature(type(policy).__init__).parameters) - {"self"}
    twin = type(policy)(**data)
    assert twin._get_constructor_parameters().keys() == data.keys()
    for name, value in twin._get_constructor_parameters().items():
        if name != "lr_schedule":
            assert value == data[name], name
    twin.load_state_dict(policy.state_dict())


@pytest.mark.parametrize("make", [sac_policy, ac_policy])
@pytest.mark.parametrize("share", [False, True])
def test_policy_save_and_load_keep_every_number(make, share: bool, tmp_path) -> None:
    """Perturbed weights, buffers and noise come back, shared extractors stay shared."""
    policy = make("cvae", share_features_extractor=share)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.predict(observations(policy.observation_space, 2).numpy())
    policy.save(str(tmp_path / "policy.pth"))
    twin = type(policy).load(str(tmp_path / "policy.pth"), device="cpu")
    assert twin.share_features_extractor is share
    expected, found = policy.state_dict(), twin.state_dict()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    obs = observations(policy.observation_space, 4).numpy()
    for deterministic in (True, False):
        assert (
            policy.predict(obs, deterministic=deterministic)[0]
            == twin.predict(obs, deterministic=deterministic)[0]
        ).all()


def test_policies_are_importable_classes() -> None:
    """SB3's zip stores the class by its import path."""
    for cls in (SACPolicy, ActorCriticPolicy):
        assert cls.__module__.startswith("vaerl.policies")


RUN = """
import hashlib, json, sys
if sys.argv[1] == "with":
    import vaerl, vaerl.agents, vaerl.policies, vaerl.densities
    vaerl.agents.SAC, vaerl.agents.PPO, vaerl.agents.MPC, vaerl.agents.MBPO
import torch
torch.set_num_threads(1)
from stable_baselines3 import PPO, SAC
def digest(model):
    state = b"".join(v.numpy().tobytes() for v in model.policy.state_dict().values())
    return hashlib.sha256(state).hexdigest()
kwargs = dict(seed=3, policy_kwargs={"net_arch": [8]}, device="cpu")
ppo = PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=16, n_epochs=2, **kwargs).learn(64)
sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=20, batch_size=16, **kwargs).learn(40)
print(json.dumps([digest(ppo), digest(sac), sorted(PPO.policy_aliases), str(SAC.policy_aliases)]))
"""


def test_plain_sb3_is_bitwise_the_same_with_vaerl_imported() -> None:
    """No stray draw, no changed alias: PPO and SAC end with the same bytes."""
    results = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", RUN, how], capture_output=True, text=True, check=True
            ).stdout.splitlines()[-1]
        )
        for how in ("without", "with")
    ]
    assert results[0] == results[1]
