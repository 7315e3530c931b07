"""The switches of PPO and A2C: statistics that stand still through a rollout and its update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import wrappers
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import ActorCriticPolicy as SB3ActorCriticPolicy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.agents.test_laws import TwoModes
from tests.policies.common import TinyEnv
from vaerl.agents import A2C, PPO
from vaerl.agents.rollouts import ScaledRewards
from vaerl.agents.scaling import ReturnScale
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint
from vaerl.disk.errors import NotFinite
from vaerl.policies import ActorCriticPolicy
from vaerl.policies.running import CLIP

KINDS: dict[type, dict[str, Any]] = {PPO: {"n_steps": 32, "batch_size": 32}, A2C: {"n_steps": 32}}
BOTH = {"normalize_observations": True, "scale_rewards": True}


def agent(kind: Any = PPO, env: Any = None, density: str = "cvae", **options: Any) -> Any:
    made = DummyVecEnv([TinyEnv] * 2) if env is None else env
    return kind(density, made, seed=0, **(KINDS[kind] | options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_moments_take_in_each_rollout_after_its_update(kind: Any, density: str) -> None:
    trained = agent(kind, density=density, **BOTH)
    seen: list[np.ndarray] = []
    for rollout in range(3):
        moments = trained.policy.normalizer.whole
        assert int(moments.count) == 64 * rollout
        if rollout:
            rows = np.concatenate(seen)
            np.testing.assert_allclose(moments.running_mean, rows.mean(0), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(moments.running_var, rows.var(0), rtol=1e-9, atol=1e-12)
        trained.learn(64, reset_num_timesteps=False)
        seen.append(trained.rollout_buffer.observations.reshape(-1, 2).astype(np.float64))


@pytest.mark.parametrize("native", [True, False])
def test_the_ratio_of_an_update_starts_at_one(native: bool) -> None:
    """In the second and third rollout too, before which the moments have moved."""
    trained = agent(native=native, **BOTH)
    for _ in range(3):
        trained.learn(64, reset_num_timesteps=False)
        assert trained.logger.name_to_value["train/latent_kl_floor"] < 1e-4


def test_the_policy_sees_what_the_moments_make_of_an_observation() -> None:
    trained, plain = agent(**BOTH).learn(64), agent()
    own = {k: v for k, v in trained.policy.state_dict().items() if "normalizer" not in k}
    plain.policy.load_state_dict(
        {k.replace("extractor.inner", "extractor"): v for k, v in own.items()}
    )
    moments = trained.policy.normalizer.whole
    obs = np.array([[0.3, -2.0], [1.5, 0.1]], np.float32)
    rows = (obs - moments.running_mean.numpy()) / np.sqrt(moments.running_var.numpy() + 1e-8)
    by_hand = plain.predict(rows.astype(np.float32), deterministic=True)[0]
    np.testing.assert_allclose(trained.predict(obs, deterministic=True)[0], by_hand, atol=1e-5)
    assert not np.allclose(plain.predict(obs, deterministic=True)[0], by_hand, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_rewards_have_no_units(kind: Any) -> None:
    """The same numbers are learned from rewards a thousand times as large, and not without it."""
    alike = {}
    for on in (True, False):
        made = [
            agent(kind, env, scale_rewards=on, density="gaussian", n_steps=64).learn(192)
            for env in (TinyEnv(), wrappers.TransformReward(TinyEnv(), lambda r: 1000.0 * r))
        ]
        one, other = (torch.cat([p.flatten() for p in a.policy.parameters()]) for a in made)
        alike[on] = torch.allclose(one, other, rtol=1e-3, atol=1e-4)
    assert alike == {True: True, False: False}


def test_rewards_are_those_over_the_deviation_of_the_return_so_far() -> None:
    trained = agent(scale_rewards=True, env=DummyVecEnv([TinyEnv]))
    raw: list[float] = []
    trained.learn(32, lambda where, _: bool(raw.append(trained.env.buf_rews[0].item())) or True)  # type: ignore[func-returns-value]
    returns, g = [], 0.0
    starts = [*trained.rollout_buffer.episode_starts.ravel(), 0.0]
    for reward, starts_anew, scaled in zip(
        raw, starts[1:], trained.rollout_buffer.rewards.ravel(), strict=True
    ):
        g = trained.gamma * g + reward
        returns.append(g)
        expected = np.clip(reward / (np.std(returns) + 1e-8), -CLIP, CLIP)
        if not starts_anew:  # SB3 adds the value of what follows a time limit
            assert scaled == pytest.approx(expected, rel=1e-4), returns
        g *= 1.0 - starts_anew


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(kind: Any, tmp_path: Path) -> None:
    """Statistics of observations and returns included; SB3's own file has them, too."""
    whole = agent(kind, TwoModes(), **BOTH).learn(32)
    set_random_seed(9)
    whole.learn(32, reset_num_timesteps=False)
    first = agent(kind, TwoModes(), **BOTH).learn(32)
    save_checkpoint(first, tmp_path, num_timesteps=32)
    resumed = load_checkpoint(tmp_path, DummyVecEnv([TwoModes]), "cpu", restore_rng=True)
    set_random_seed(9)
    resumed.learn(32, reset_num_timesteps=False)
    whole.save(tmp_path / "file")
    with pytest.raises(ValueError, match="scale_rewards: got False, expected True, as it was sav"):
        kind.load(tmp_path / "file", scale_rewards=False)
    for other in (resumed, kind.load(tmp_path / "file")):
        for part in ("policy", "return_scale"):
            expected = getattr(whole, part).state_dict()
            for name, value in getattr(other, part).state_dict().items():
                assert torch.equal(value, expected[name]), name


def test_what_gathers_no_statistics_is_refused_in_a_line() -> None:
    kwargs = {"density": "cvae", "normalize_observations": True}
    with pytest.raises(ValueError, match="normalize_observations: got True in PPO of stable_base"):
        SB3PPO(ActorCriticPolicy, TinyEnv(), policy_kwargs=kwargs)
    with pytest.raises(ValueError, match="normalize_observations: got True with a chunk"):
        agent(policy_kwargs={"chunk": 2}, normalize_observations=True)
    with pytest.raises(ValueError, match="scale_rewards: got 1, expected True or False"):
        agent(scale_rewards=1)
    with pytest.raises(ValueError, match="normalize_observations: got 'no', expected True or"):
        agent(policy_kwargs={"normalize_observations": "no"})
    with pytest.raises(ValueError, match="normalize_observations: got True with policy ActorCrit"):
        PPO(SB3ActorCriticPolicy, TinyEnv(), normalize_observations=True)


class Whole(TinyEnv):
    """Rewards are whole numbers, or what `bad` says."""

    bad: float | None = None

    def step(self, action: np.ndarray) -> Any:
        obs, _, done, cut, info = super().step(action)
        return obs, -1 if self.bad is None else self.bad, done, cut, info


def test_whole_rewards_are_scaled_as_others_are() -> None:
    """Some wrappers stack them to integers."""
    scale = ReturnScale(0.9)
    env = ScaledRewards(DummyVecEnv([Whole]), scale)
    env.venv.buf_rews = np.zeros(1, np.int64)  # type: ignore[attr-defined]
    env.reset()
    seen = [float(env.step(np.zeros((1, 2), np.float32))[1][0]) for _ in range(5)]
    deviations = [
        np.std([-sum(0.9**i for i in range(n + 1)) for n in range(m + 1)]) for m in range(5)
    ]
    assert seen == pytest.approx([-10.0, *(-1.0 / d for d in deviations[1:])], rel=1e-5)


def test_a_reward_that_is_not_finite_is_named_and_not_taken_in() -> None:
    env = DummyVecEnv([Whole, Whole])
    made = agent(env=env, scale_rewards=True)
    env.envs[1].unwrapped.bad = np.nan
    with pytest.raises(NotFinite, match="env 1: reward is NaN"):
        made.learn(64)
    env.envs[1].unwrapped.bad = None
    made.learn(64)
    assert torch.isfinite(made.return_scale.moments.running_var)
