"""Laws of the agents that hold whatever the density: bounds tighten, a true model is no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Env, spaces
from stable_baselines3 import A2C
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.agents.model_tasks import KnownWalk
from tests.policies.common import TinyEnv
from vaerl.agents import MBPO, PPO, SAC
from vaerl.agents.critics import Transition
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint
from vaerl.planning import Step
from vaerl.policies import ActorCriticPolicy
from vaerl.policies.critic_heads import Backup

STATE = np.zeros((1, 1), np.float32)


class TwoModes(Env):
    """One state, one step; the reward peaks at −0.6 and at 0.6."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return STATE[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(np.exp(-0.5 * ((abs(action[0]) - 0.6) / 0.2) ** 2))
        return STATE[0], reward, True, False, {}


def sac(density: str = "cvae", **options: Any) -> SAC:
    """A small agent on the two modes, before its first update."""
    settings: dict[str, Any] = {
        "learning_starts": 128,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "ent_coef": 0.25,
        "buffer_size": 1000,
        "seed": 0,
        "device": "cpu",
        "policy_kwargs": {"net_arch": [32]},
    }
    return SAC(density, TwoModes(), **(settings | options)).learn(128)


def bounds(agent: SAC, paths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """L_k and U_k at 8,000 of the policy's own samples, ``(8000,)`` each."""
    generator = torch.Generator().manual_seed(0)
    value = agent.density_value(np.zeros((8000, 1), np.float32))
    with torch.no_grad():
        x, latents = value.rsample_with_latents((), generator)
        found = value.log_prob_bounds(x, paths, latents, generator)
    return found.lower, found.upper


def test_training_tightens_the_bound_and_more_paths_lower_it() -> None:
    """The gap U_1 − L_1 falls from a recognition network that is off, and E[U_k] falls with k."""
    agent = sac()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in agent.actor.named_parameters():
            if "recognition" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    lower, upper = bounds(agent, 1)
    before = (upper - lower).mean()
    agent.train(120, 64)
    lower, upper = bounds(agent, 1)
    after = (upper - lower).mean()
    assert after < 0.5 < 10.0 < before, (before, after)
    for few, many in ((1, 4), (4, 16)):
        falls = bounds(agent, few)[1] - bounds(agent, many)[1]
        error = falls.std() / len(falls) ** 0.5
        assert falls.mean() > 2.0 * error, (few, many, falls.mean(), error)


class TrueWalk:
    """The law of `KnownWalk` in place of a learned model; actions scaled to [−1, 1]."""

    def begin(self, rows: int, generator: torch.Generator | None = None) -> TrueWalk:
        return self

    def step(self, states: torch.Tensor, actions: torch.Tensor, generator: Any = None) -> Step:
        after = states + actions
        return Step(after, -after[:, 0].abs(), after[:, 0].abs() > 4.0)


def test_mbpo_with_the_true_law_is_sac() -> None:
    """At fixed weights, losses on imagined batches are those on steps of the environment."""
    options: dict[str, Any] = {
        "learning_rate": 0.0,
        "batch_size": 64,
        "buffer_size": 2000,
        "policy_kwargs": {"net_arch": [16]},
        "seed": 0,
    }
    env = KnownWalk(length=1)
    mbpo = MBPO("gaussian", KnownWalk(), real_share=0.0, rollout_batch_size=2000, **options)
    real = SAC("gaussian", env, **options)
    mbpo._setup_learn(1)
    real._setup_learn(1)
    mbpo.policy.load_state_dict(real.policy.state_dict())
    states = torch.linspace(-3.9, 3.9, 2000).unsqueeze(1)
    mbpo.world = TrueWalk()  # type: ignore[assignment]
    mbpo.imagined.add(mbpo._imagine(states))
    with torch.no_grad():
        actions = real.actor(states).numpy()
    for state, action in zip(states.numpy(), actions, strict=True):
        env.reset()
        env.at = state
        after, reward, ended, _, _ = env.step(real.policy.unscale_action(action))
        buffer: Any = real.replay_buffer
        buffer.add(state, after, action, np.array([reward]), np.array([ended]), [{}])
    found = []
    for agent in (mbpo, real):
        infos = [agent._update(real.replay_buffer.sample(64)) for _ in range(100)]
        found.append(
            {
                key: np.array([float(info[key]) for info in infos])
                for key in ("critic_loss", "actor_loss", "entropy_lower")
            }
        )
    for key, ours in found[0].items():
        theirs = found[1][key]
        error = np.sqrt((ours.var() + theirs.var()) / len(ours))
        assert abs(ours.mean() - theirs.mean()) < 4.0 * error, (key, ours.mean(), theirs.mean())


@pytest.mark.parametrize("kind", ["ppo", "a2c"])
@pytest.mark.parametrize("density", ["mixture", "gaussian"])
def test_on_policy_a_mixture_holds_both_modes(kind: str, density: str) -> None:
    """With an entropy bonus, under which a Gaussian covers the valley between them."""
    common: dict[str, Any] = {
        "env": DummyVecEnv([TwoModes] * 16),
        "n_steps": 16,
        "ent_coef": 0.25,
        "learning_rate": 1e-2,
        "gamma": 0.0,
        "seed": 0,
        "policy_kwargs": {"net_arch": [16], "density": density, "squash_output": True},
    }
    if kind == "ppo":
        agent: Any = PPO("MlpPolicy", batch_size=128, n_epochs=8, **common).learn(256 * 8)
    else:
        agent = A2C(
            ActorCriticPolicy, use_rms_prop=False, normalize_advantage=True, **common
        ).learn(256 * 40)
    drawn = agent.predict(np.zeros((2000, 1), np.float32))[0][:, 0]
    left, right, valley = ((np.abs(drawn - c) < 0.3).mean() for c in (-0.6, 0.6, 0.0))
    held = bool(min(left, right) > 0.2 and valley < 0.2)
    assert held is (density == "mixture"), (left, right, valley)


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(density: str, tmp_path: Path) -> None:
    """Every number of the policy, where episodes do not straddle the interruption."""
    whole = sac(density)
    whole.learn(60, reset_num_timesteps=False)
    first = sac(density)
    first.learn(20, reset_num_timesteps=False)
    save_checkpoint(first, tmp_path, num_timesteps=first.num_timesteps, include_replay=True)
    set_random_seed(9)
    resumed = load_checkpoint(
        tmp_path, DummyVecEnv([TwoModes]), "cpu", include_replay=True, restore_rng=True
    )
    resumed.learn(40, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps == 188
    expected = whole.policy.state_dict()
    for name, value in resumed.policy.state_dict().items():
        assert torch.equal(value, expected[name]), name


class Doubles(FlattenExtractor):
    """Observations in float64, which SB3 hands out in float32."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations).double()


@pytest.mark.parametrize("density", ["gaussian", "mixture", "cvae"])
def test_an_agent_in_float64_is_that_in_float32(density: str) -> None:
    """The same losses but for rounding, in the type of its parameters."""
    losses = []
    for extractor in (FlattenExtractor, Doubles):
        kwargs = {"net_arch": [16], "features_extractor_class": extractor}
        agent = SAC(density, TinyEnv(), policy_kwargs=kwargs, learning_starts=64, seed=0).learn(64)
        if extractor is Doubles:
            agent.policy.double()
        with torch.no_grad():
            context = agent.actor.context(torch.ones(4, 2))
            value = agent.actor.density(context)
            x, log_prob = value.rsample_and_log_prob(4, (), torch.Generator().manual_seed(0))
            assert x.dtype == log_prob.dtype == context.dtype
            assert context.dtype == (torch.float64 if extractor is Doubles else torch.float32)
        batch = agent.replay_buffer.sample(64)
        one = torch.ones(64, 1, dtype=context.dtype)
        step = Transition(
            batch.observations,
            batch.actions,
            batch.next_observations,
            batch.actions,
            Backup(one, one, 0.9, one),
        )
        loss = agent._critics.regress(step)
        assert loss.dtype == context.dtype
        info = agent._update(batch)
        assert all(torch.isfinite(number).all() for number in info.values())
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
