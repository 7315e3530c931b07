"""Agents by name, the policy argument, and what both agents refuse."""

from __future__ import annotations

import inspect
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces

import vaerl.agents
from tests.policies.common import TinyEnv
from vaerl.agents import AGENTS, MBPO, MPC, PPO, SAC, agent_class, agent_names, make_agent
from vaerl.policies import ActorCriticPolicy, SACPolicy

TINY = {"net_arch": [8]}


def make(name: str, policy="gaussian", env=None, **kwargs):
    """An agent with tiny nets."""
    more = {"buffer_size": 64} if name == "sac" else {"n_steps": 8, "batch_size": 8}
    kwargs.setdefault("policy_kwargs", TINY)
    return make_agent(name, policy, env or TinyEnv(), **more, **kwargs)


def test_agents_by_name() -> None:
    """Names, classes and the dict agree; an unknown name gets one line with the nearest."""
    for cls in (SAC, PPO, MPC, MBPO):
        assert agent_class(AGENTS.name_of(cls)) is cls
    assert "sac" in agent_names()
    assert agent_class("ppo") is PPO
    with pytest.raises(ValueError, match=r"agent: got 'pp0', did you mean 'ppo'\?"):
        agent_class("pp0")
    with pytest.raises(AttributeError, match="no attribute 'TRPO'"):
        _ = vaerl.agents.TRPO


def test_naming_the_agents_is_light() -> None:
    """The list of names loads neither torch nor SB3."""
    code = (
        "import sys, vaerl.agents as a; a.agent_names(); "
        "sys.exit(bool({'torch', 'stable_baselines3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_policy_is_a_density_an_alias_or_a_class(name: str) -> None:
    """All three ways lead to the same policy class; the default density is the CVAE."""
    cls = {"sac": SACPolicy, "ppo": ActorCriticPolicy}[name]

    def density(policy, **kwargs) -> str:
        agent = make(name, policy, policy_kwargs=TINY | kwargs)
        assert type(agent.policy) is cls
        return agent._head.density.name

    assert density("mixture") == "mixture"
    assert density("MlpPolicy") == "cvae"
    assert density("MlpPolicy", density="gaussian") == "gaussian"
    assert density(cls, density="gaussian") == "gaussian"


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_bad_policies_get_one_line(name: str) -> None:
    """Unknown names with the nearest match, contradictions with both values."""
    with pytest.raises(ValueError, match=r"^policy: got 'cvea', did you mean 'cvae'\?"):
        make(name, "cvea")
    with pytest.raises(ValueError, match=r"^policy: got density 'cvae', but .*'mixture'"):
        make(name, "cvae", policy_kwargs={"density": "mixture"})
    with pytest.raises(ValueError, match=r"^use_sde: "):
        make(name, use_sde=True)


@pytest.mark.parametrize("name", ["sac", "ppo"])
@pytest.mark.parametrize(
    "space", [spaces.Discrete(2), spaces.Box(-np.inf, np.inf, (1,)), spaces.Box(0, 3, (1,), int)]
)
def test_bad_action_spaces_get_one_line(name: str, space: spaces.Space) -> None:
    """Before any network is built."""
    env = TinyEnv()
    env.action_space = space
    with pytest.raises(ValueError, match=r"^action_space: got .*, expected "):
        make(name, env=env)


def test_aliases_are_our_own() -> None:
    """SB3's dicts of policy names stay SB3's."""
    for ours, theirs in ((SAC, stable_baselines3.SAC), (PPO, stable_baselines3.PPO)):
        assert ours.policy_aliases is not theirs.policy_aliases
        assert all(c.__module__.startswith("stable_b") for c in theirs.policy_aliases.values())


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_the_callers_policy_kwargs_stay_as_they_are(name: str) -> None:
    """The same dict can be given to several agents."""
    kwargs = {"net_arch": [8], "density_kwargs": {"latent_dims": (2,)}}
    make(name, "cvae", policy_kwargs=kwargs)
    assert kwargs == {"net_arch": [8], "density_kwargs": {"latent_dims": (2,)}}


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_density_value_is_a_snapshot_without_gradient(name: str) -> None:
    """Its numbers stay as they are while training goes on."""
    agent = make(name, "cvae")
    obs = np.zeros((3, 2), np.float32)
    value = agent.density_value(obs)
    assert value.batch_shape == (3,)
    before = value.mode()
    assert not before.requires_grad
    agent.policy.load_state_dict(make(name, "cvae", seed=9).policy.state_dict())
    assert value.mode().equal(before)
    assert not agent.density_value(obs).mode().equal(before)


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_latent_diagnostics(name: str) -> None:
    """Gap, KL and units per layer and ESS for the CVAE, nothing for an exact density."""
    agent = make(name, "cvae", policy_kwargs=TINY | {"density_kwargs": {"latent_dims": (3, 2)}})
    found = agent.latent_diagnostics(np.zeros((64, 2), np.float32))
    layers = {f"{kind}_{l}" for kind in ("kl_layer", "active_units") for l in (1, 2)}
    assert set(found) == {"bound_gap", "ess"} | layers
    assert found["bound_gap"] > 0.0
    assert 0.0 < found["ess"] <= 1.0
    assert make(name, "gaussian").latent_diagnostics(np.zeros((4, 2), np.float32)) == {}


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_seeds_repeat_a_run(name: str) -> None:
    """One seed, one run; another seed, another run; set_random_seed starts the noise anew."""
    obs = np.zeros((8, 2), np.float32)
    runs = [make(name, "cvae", seed=seed).learn(16).predict(obs)[0] for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    agent = make(name, "cvae")
    acted = []
    for _ in range(2):
        agent.set_random_seed(5)
        acted.append(agent.predict(obs)[0])
    assert np.array_equal(*acted)


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_the_constructor_is_sb3s_with_more(name: str) -> None:
    """All parameters of SB3 in their order, then our own by keyword."""
    ours = list(inspect.signature(agent_class(name)).parameters.values())
    parent = getattr(stable_baselines3, name.upper())
    theirs = list(inspect.signature(parent).parameters.values())
    assert ours[: len(theirs)] == theirs
    assert len(ours) > len(theirs)
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])
    agent = agent_class(name)("gaussian", TinyEnv(), 1e-2)
    assert agent.learning_rate == 1e-2


def test_make_env_by_name() -> None:
    """An environment's id is enough."""
    assert isinstance(SAC("cvae", "Pendulum-v1", buffer_size=8).get_env().envs[0], gym.Env)
