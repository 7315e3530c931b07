"""PPO and A2C: exact ratios through frozen codes, in SB3's own classes and in ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.policies.common import DENSITIES, TinyEnv
from vaerl.agents import PPO
from vaerl.policies import ActorCriticPolicy

TINY: dict[str, Any] = {"net_arch": [16]}
FAST: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 2, "seed": 0}


def measured(base: type) -> type:
    """The agent class, with max |ratio − 1| of every minibatch noted before training."""

    class Measured(base):
        ratios: list[float]

        def train(self) -> None:
            self.ratios = getattr(self, "ratios", [])
            self.policy.set_training_mode(True)
            step = self.rollout_buffer.to_torch(self.rollout_buffer.log_probs)
            assert step.shape == (self.n_steps, self.n_envs)
            copies = {
                k: v.copy()
                for k, v in vars(self.rollout_buffer).items()
                if isinstance(v, np.ndarray)
            }
            for data in self.rollout_buffer.get(64):
                _, log_prob, _ = self.policy.evaluate_actions(data.observations, data.actions)
                ratio = torch.exp(log_prob - data.old_log_prob)
                self.ratios.append((ratio - 1.0).abs().max().item())
            vars(self.rollout_buffer).update(copies, generator_ready=False)
            super().train()

    return Measured


@pytest.mark.parametrize("base", [stable_baselines3.PPO, PPO])
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("envs", [1, 4])
def test_the_first_ratio_is_one(base: type, density: str, envs: int) -> None:
    """Over every minibatch of two rollouts, before and after the first update, squashed or not."""
    for squash in (False, True):
        agent = measured(base)(
            ActorCriticPolicy,
            DummyVecEnv([TinyEnv] * envs),
            policy_kwargs=TINY | {"density": density, "squash_output": squash},
            **FAST,
        )
        agent.learn(2 * 64 * envs)
        assert len(agent.ratios) == 2 * envs
        assert max(agent.ratios) < 1e-4  # rollout and update round apart


@pytest.mark.parametrize("base", [stable_baselines3.PPO, PPO])
def test_target_kl_does_not_stop_on_noise(base: type) -> None:
    """With a tiny learning rate all epochs run, since the KL of an unchanged policy is 0."""
    agent = base(
        ActorCriticPolicy,
        TinyEnv(),
        learning_rate=1e-9,
        target_kl=1e-6,
        policy_kwargs=TINY,
        **FAST,
    ).learn(64)
    assert agent._n_updates == 2
    assert agent.logger.name_to_value["train/approx_kl"] < 1e-6


class Codes(BaseCallback):
    """Notes the codes at each rollout's first step and end, and predicts in the middle of it."""

    def _on_training_start(self) -> None:
        self.starts: list[torch.Tensor] = []
        self.ends: list[torch.Tensor] = []

    def _on_step(self) -> bool:
        if len(self.starts) == len(self.ends):
            self.starts.append(self.model.policy.codes.codes.clone())
        self.model.predict(np.zeros((1, 2), np.float32))
        return True

    def _on_rollout_end(self) -> None:
        self.ends.append(self.model.policy.codes.codes.clone())


def test_codes_are_fresh_in_every_rollout_and_fixed_within() -> None:
    """In unmodified SB3, with predictions in between."""
    codes = Codes()
    stable_baselines3.PPO(ActorCriticPolicy, TinyEnv(), policy_kwargs=TINY, **FAST).learn(
        192, codes
    )
    assert len(codes.starts) == 3
    for start, end in zip(codes.starts, codes.ends, strict=True):
        assert torch.equal(start, end)
    assert not torch.equal(codes.starts[0], codes.starts[1])
    assert not torch.equal(codes.starts[1], codes.starts[2])


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dict_obs", [False, True])
def test_save_perturb_load_continue(density: str, dict_obs: bool, tmp_path) -> None:
    """Every number comes back from SB3's zip, the recognition network's optimizer included."""
    agent = PPO(density, TinyEnv(dict_obs), policy_kwargs=TINY, **FAST).learn(64)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    agent.save(tmp_path / "agent.zip")
    loaded = PPO.load(tmp_path / "agent.zip", device="cpu")
    old, new = agent.get_parameters(), loaded.get_parameters()
    assert ("recognition_optimizer" in old) is (density == "cvae")
    assert old.keys() == new.keys()
    for name, value in old["policy"].items():
        assert torch.equal(value, new["policy"][name]), name
    for name in old.keys() - {"policy"}:
        assert old[name]["param_groups"] == new[name]["param_groups"]
        for index, state in old[name]["state"].items():
            for key, value in state.items():
                assert torch.equal(value, new[name]["state"][index][key]), (name, index, key)
    obs = agent.get_env().reset()
    for deterministic in (True, False):
        expected = agent.predict(obs, deterministic=deterministic)[0]
        assert np.array_equal(loaded.predict(obs, deterministic=deterministic)[0], expected)
    loaded.set_env(agent.get_env())
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.num_timesteps == 128


def test_the_sleep_phase_tightens_the_bounds_and_leaves_the_policy_alone() -> None:
    """More recognition steps, smaller gap; decoder, prior and trunk do not move."""
    agent = PPO(
        "cvae",
        TinyEnv(),
        policy_kwargs=TINY,
        recognition_steps=200,
        recognition_learning_rate=1e-2,
        **FAST,
    ).learn(64)
    agent.policy.load_state_dict(
        PPO("cvae", TinyEnv(), policy_kwargs=TINY, **FAST).policy.state_dict()
    )
    obs = np.random.default_rng(0).uniform(-1, 1, (256, 2)).astype(np.float32)
    before, state = agent.latent_diagnostics(obs), agent.policy.state_dict()
    state = {k: v.clone() for k, v in state.items()}
    agent.policy.optimizer.zero_grad()
    agent._sleep()
    moved = {id(parameter) for parameter in agent.policy.recognition_parameters()}
    assert all(p.grad is None for p in agent.policy.parameters() if id(p) not in moved)
    after = agent.latent_diagnostics(obs)
    assert after["bound_gap"] < 0.7 * before["bound_gap"]
    assert after["ess"] > before["ess"]
    for name, value in agent.policy.state_dict().items():
        if "noise" not in name:
            assert torch.equal(value, state[name]) is ("recognition" not in name), name


def test_latents_are_logged() -> None:
    """Floor for all densities, the latents' numbers for the CVAE."""
    for density, expected in (("cvae", True), ("gaussian", False)):
        logged = PPO(density, TinyEnv(), policy_kwargs=TINY, **FAST).learn(64).logger.name_to_value
        assert logged["train/latent_kl_floor"] < 1e-4
        for key in ("bound_gap", "kl_layer_1", "active_units_1", "ess_ratio"):
            assert (f"latent/{key}" in logged) is expected


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dict_obs", [False, True])
def test_a2c_takes_one_step_along_its_own_loss(density: str, dict_obs: bool) -> None:
    """Unmodified A2C with plain gradient descent: a step of −rate times the gradient."""
    env = DummyVecEnv([lambda: TinyEnv(dict_obs)] * 2)
    policy_kwargs = TINY | {"density": density, "optimizer_class": torch.optim.SGD}
    agent = A2C(
        ActorCriticPolicy,
        env,
        1e-3,
        seed=0,
        use_rms_prop=False,
        max_grad_norm=1e9,
        policy_kwargs=policy_kwargs,
    ).learn(40)
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    (data,) = agent.rollout_buffer.get(None)
    agent.policy.noise.reseed(1)
    values, log_prob, _ = agent.policy.evaluate_actions(data.observations, data.actions)
    loss = (
        -(data.advantages * log_prob).mean() + 0.5 * (data.returns - values[:, 0]).square().mean()
    )
    gradients = torch.autograd.grad(loss, list(agent.policy.parameters()), allow_unused=True)
    agent.rollout_buffer.generator_ready = True
    agent.policy.noise.reseed(1)
    agent.train()
    for old, new, slope in zip(before, agent.policy.parameters(), gradients, strict=True):
        step = torch.zeros_like(old) if slope is None else -1e-3 * slope
        torch.testing.assert_close(new - old, step, rtol=1e-3, atol=1e-6)


def test_callbacks(tmp_path) -> None:
    """EvalCallback and CheckpointCallback run in the middle of rollouts without touching them."""
    agent = PPO("cvae", TinyEnv(), policy_kwargs=TINY, **FAST)
    evaluate = EvalCallback(
        Monitor(TinyEnv()), eval_freq=50, n_eval_episodes=2, best_model_save_path=str(tmp_path)
    )
    agent.learn(128, callback=[evaluate, CheckpointCallback(50, str(tmp_path), "check")])
    assert (tmp_path / "best_model.zip").exists()
    assert PPO.load(tmp_path / "check_100_steps.zip", device="cpu").num_timesteps == 100
    twin = PPO("cvae", TinyEnv(), policy_kwargs=TINY, **FAST).learn(128)
    for name, value in twin.policy.state_dict().items():
        assert torch.equal(value, agent.policy.state_dict()[name]), name


def test_options_are_checked(tmp_path) -> None:
    """One line each, when made and when loaded."""
    with pytest.raises(ValueError, match="recognition_steps: got -1"):
        PPO("cvae", TinyEnv(), recognition_steps=-1)
    for rate in (0.0, -1.0, math.inf, math.nan, "a", None, True):
        with pytest.raises(ValueError) as error:
            PPO("cvae", TinyEnv(), recognition_learning_rate=rate)
        line = f"recognition_learning_rate: got {rate!r}, expected a positive finite number"
        assert str(error.value) == line
    for name in ("n_epochs", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}: got 0, expected a whole number"):
            PPO("cvae", TinyEnv(), normalize_advantage=False, **{name: 0})
    agent = PPO("cvae", TinyEnv(), n_epochs=np.int64(2), recognition_learning_rate=np.float32(1e-3))
    agent.save(tmp_path / "agent")
    for name in ("n_epochs", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}: got 0"):
            PPO.load(tmp_path / "agent", **{name: 0})


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped values": {"clip_range_vf": 0.02, "normalize_advantage": False, "vf_coef": 0.7},
    "entropy bonus": {"ent_coef": 0.1},
    "early stop": {"target_kl": 2e-4, "learning_rate": 1e-2},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_the_update_is_sb3s(density: str, options: str) -> None:
    """In torch, on one rollout, with the same minibatches: parameters, steps and what is logged."""
    agents = []
    for base in (stable_baselines3.PPO, PPO):
        kwargs = {"policy_kwargs": TINY | {"density": density}} | OPTIONS[options]
        kwargs |= {"native": False} if base is PPO else {}
        agent = base(ActorCriticPolicy, TinyEnv(), **(FAST | {"batch_size": 16}), **kwargs)
        agent.learn(0)
        nothing = CallbackList([])
        nothing.init_callback(agent)
        agent.collect_rollouts(agent.env, nothing, agent.rollout_buffer, 64)
        set_random_seed(1)
        agent.policy.noise.reseed(1)
        agent.train()
        agents.append(agent)
    theirs, ours = agents
    assert ours._n_updates == theirs._n_updates
    for name, value in theirs.policy.named_parameters():
        if "recognition" not in name:  # the sleep phase, which comes after, moves that alone
            assert torch.equal(ours.policy.get_parameter(name), value), name
    logged, expected = (agent.logger.name_to_value for agent in (ours, theirs))
    for key in expected:
        sampled = key == "train/entropy_loss" and "ent_coef" not in OPTIONS[options]
        if key.startswith("train/") and not sampled:
            assert logged[key] == expected[key], key
