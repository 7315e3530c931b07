"""The switches of SAC and MBPO: each has its law, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.agents.model_tasks import Walk
from tests.agents.test_laws import TwoModes
from tests.agents.test_mbpo import FAST as MODEL
from tests.policies.common import DICT_OBS, TinyEnv
from vaerl.agents import A2C, MBPO, PPO, SAC
from vaerl.agents.scaling import ReturnScale
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint
from vaerl.policies.critic_layers import LayerNorms, Linears
from vaerl.policies.hold import ZETA_CAP, zeta_lengths
from vaerl.policies.running import NormalizedFeatures, ObservationNormalizer

TINY: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}}
FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}


def sac(env: Any = None, density: str = "gaussian", steps: int = 40, **options: Any) -> SAC:
    """A small agent after some updates."""
    return SAC(density, env or TinyEnv(), **(TINY | FAST | options)).learn(steps)


def parameters(agent: Any, part: str = "") -> dict[str, torch.Tensor]:
    """The learned numbers of a part."""
    return {k: v.detach().clone() for k, v in agent.policy.named_parameters() if part in k}


def assert_alike(first: Any, second: Any) -> None:
    ours, theirs = parameters(first), parameters(second)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


def differ(first: Any, second: Any) -> bool:
    ours, theirs = parameters(first), parameters(second)
    return any(not torch.allclose(v, theirs[k], rtol=1e-2, atol=1e-3) for k, v in ours.items())


class OtherUnits(gymnasium.ObservationWrapper):
    """Observations in other units."""

    def __init__(self) -> None:
        super().__init__(TinyEnv())
        self.observation_space = spaces.Box(-1e4, 1e4, (2,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return (np.array([300.0, 0.01]) * observation + np.array([5.0, 1.0])).astype(np.float32)


@pytest.mark.parametrize("critic", ["sac", "crossq"])
def test_normalized_observations_have_no_units(critic: str) -> None:
    """The same numbers are learned from observations in other units, and not without it."""
    for on in (True, False):
        made = [
            sac(env, normalize_observations=on, critic=critic) for env in (TinyEnv(), OtherUnits())
        ]
        if on:
            assert_alike(*made)
        else:
            assert differ(*made)


def test_scaled_rewards_have_no_units() -> None:
    """The same numbers are learned from rewards a thousand times as large, and not without it."""
    for on in (True, False):
        made = [
            sac(env, scale_rewards=on)
            for env in (TinyEnv(), wrappers.TransformReward(TinyEnv(), lambda r: 1000.0 * r))
        ]
        if on:
            assert_alike(*made)
        else:
            assert differ(*made)


def test_moments_are_those_of_what_was_seen() -> None:
    """Of observations and of discounted returns; each observation counts once."""
    agent = sac(DummyVecEnv([TinyEnv] * 2), normalize_observations=True, scale_rewards=True)
    buffer = agent.replay_buffer
    seen = buffer.observations[: buffer.pos].reshape(-1, 2).astype(np.float64)
    moments = next(iter(agent.policy.normalizer.parts.values()))
    assert int(moments.count) == len(seen) == 40
    np.testing.assert_allclose(moments.running_mean, seen.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moments.running_var, seen.var(0), rtol=1e-9, atol=1e-12)
    returns: list[np.ndarray] = []
    g = np.zeros(2)
    for row in range(buffer.pos):
        g = agent.gamma * g + buffer.rewards[row]
        returns.append(g.copy())
        g[buffer.timeouts[row].astype(bool)] = 0.0
    variance = float(np.var(returns))
    assert float(agent.return_scale.moments.running_var) == pytest.approx(variance, rel=1e-5)


def test_one_normaliser_serves_actor_critics_and_targets() -> None:
    """It travels with the policy, and each box of a Dict has its own part."""
    agent = sac(TinyEnv(dict_obs=True), normalize_observations=True, critic="simba")
    for module in (agent.actor, agent.critic, agent.critic_target):
        assert isinstance(module.features_extractor, NormalizedFeatures)
        assert module.features_extractor.normalizer is agent.policy.normalizer
    assert set(agent.policy.normalizer.parts) == {"a", "b"}
    pixels = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    mixed = spaces.Dict({"a": DICT_OBS["a"], "pixels": pixels, "n": spaces.Discrete(2)})
    assert set(ObservationNormalizer(mixed).parts) == {"a"}
    image = torch.ones(1, 3, 36, 36)
    assert ObservationNormalizer(pixels)(image) is image


@pytest.mark.parametrize("critic", ["sac", "crossq", "xqc"])
def test_a_resumed_run_with_all_switches_is_the_run_that_was_not_interrupted(
    critic: str, tmp_path: Path
) -> None:
    """Statistics of observations, returns and batches included."""
    options: dict[str, Any] = {
        "normalize_observations": True,
        "scale_rewards": True,
        "policy_delay": 2,
        "critic": critic,
        "ent_coef": "auto_0.01",
        "target_entropy": "-|A|/2",
    }
    whole = sac(TwoModes(), steps=31, **options).learn(20, reset_num_timesteps=False)
    first = sac(TwoModes(), steps=31, **options)
    save_checkpoint(first, tmp_path, num_timesteps=first.num_timesteps, include_replay=True)
    set_random_seed(9)
    resumed = load_checkpoint(
        tmp_path, DummyVecEnv([TwoModes]), "cpu", include_replay=True, restore_rng=True
    )
    resumed.learn(20, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps == 51
    expected = whole.policy.state_dict()
    for name, value in resumed.policy.state_dict().items():
        assert torch.equal(value, expected[name]), name
    for name, value in resumed.return_scale.state_dict().items():
        assert torch.equal(value, whole.return_scale.state_dict()[name]), name


class Shown(VecNormalize):
    """Keeps what it shows to the agent."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.paid: list[float] = []
        super().__init__(DummyVecEnv([OtherUnits]), gamma=0.9)

    def reset(self) -> Any:
        self.seen.append(super().reset())
        return self.seen[-1]

    def step_wait(self) -> Any:
        shown = super().step_wait()
        self.seen.append(shown[0])
        self.paid.append(float(shown[1][0]))
        return shown


def test_vecnormalize_and_own_normalisation_go_together() -> None:
    """The statistics are of what the agent sees, not of the environment's own numbers."""
    env = Shown()
    agent = sac(env, normalize_observations=True, scale_rewards=True)
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())
    moments = next(iter(agent.policy.normalizer.parts.values()))
    seen = np.concatenate(env.seen[:-1]).astype(np.float64)
    np.testing.assert_allclose(moments.running_mean, seen.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moments.running_var, seen.var(0), rtol=1e-6, atol=1e-9)
    returns, g = [], 0.0
    for step, reward in enumerate(env.paid):
        g = reward + (0.0 if step % 10 == 0 else agent.gamma * g)
        returns.append(g)
    assert float(agent.return_scale.moments.running_var) == pytest.approx(np.var(returns), rel=1e-5)


def test_the_actor_and_the_temperature_wait_for_their_turn() -> None:
    """With delay 3 they move at each third update; the critics at each."""
    agent = sac(policy_delay=3, steps=17)
    parts = {
        "actor": lambda: parameters(agent, "actor."),
        "critic": lambda: parameters(agent, "critic."),
    }
    moved: dict[str, list[bool]] = {"actor": [], "critic": [], "alpha": []}
    agent._n_updates = 0
    for _ in range(6):
        before = {name: read() for name, read in parts.items()}
        alpha = agent.log_ent_coef.detach().clone()
        agent.train(1, 16)
        for name, read in parts.items():
            now = read()
            moved[name].append(any(not torch.equal(v, before[name][k]) for k, v in now.items()))
        moved["alpha"].append(not torch.equal(alpha, agent.log_ent_coef))
    assert moved["actor"] == moved["alpha"] == [False, False, True] * 2
    assert all(moved["critic"])


def test_target_entropies_by_name() -> None:
    """Shares of the action dimensions, here two."""
    for text, expected in (("-|A|/2", -1.0), ("-.48|A|", -0.96), ("-|A|", -2.0), ("-3|A|/4", -1.5)):
        assert SAC("gaussian", TinyEnv(), target_entropy=text).target_entropy == expected
    for text in ("|A|", "-|A|/0", "-x|A|", "-|B|"):
        with pytest.raises(ValueError, match=r"target_entropy: got .*expected a number"):
            SAC("gaussian", TinyEnv(), target_entropy=text)


def test_on_policy_agents_take_schedules_as_text() -> None:
    agent = PPO(
        "gaussian", TinyEnv(), learning_rate="lin_1e-3_1e-4", clip_range="lin_0.2_0.1", n_steps=8,
        batch_size=8,
    )  # fmt: skip
    assert agent.lr_schedule(0.5) == pytest.approx(5.5e-4)
    assert agent.clip_range(0.5) == pytest.approx(0.15)
    assert A2C("gaussian", TinyEnv(), learning_rate="cos_1e-3").lr_schedule(0.5) == pytest.approx(
        5e-4
    )
    with pytest.raises(ValueError, match="clip_range: got 'lin', expected a number or lin_START"):
        PPO("gaussian", TinyEnv(), clip_range="lin")
    with pytest.raises(ValueError, match="learning_rate: got None, expected a number"):
        SAC("gaussian", TinyEnv(), learning_rate=None)


@pytest.mark.parametrize(
    ("text", "half", "end"), [("lin_1e-3_1e-4", 5.5e-4, 1e-4), ("cos_1e-3_0_0.5", 0.0, 0.0)]
)
def test_learning_rates_fall(text: str, half: float, end: float, tmp_path: Path) -> None:
    """As the text says, in all optimisers; also after a checkpoint."""
    agent = sac(learning_rate=text)
    save_checkpoint(agent, tmp_path, include_replay=True)
    loaded = load_checkpoint(tmp_path, DummyVecEnv([TinyEnv]), "cpu", include_replay=True)
    loaded.set_logger(agent.logger)
    for each in (agent, loaded):
        for remaining, expected in ((1.0, 1e-3), (0.5, half), (0.0, end)):
            each._current_progress_remaining = remaining
            each.train(1, 16)
            for optimizer in (each.actor.optimizer, each.critic.optimizer, each.ent_coef_optimizer):
                assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="learning_rate: got 'exp_1', expected a number or lin_"):
        sac(learning_rate="exp_1")


def test_layer_norm_alone() -> None:
    """Each hidden layer of SB3's critic gets one, before its activation."""
    agent = sac(critic_options={"norm": "layer"})
    kinds = [type(layer).__name__ for layer in agent.critic.net]
    assert kinds == ["Linears", "LayerNorms", "Activations", "Linears"]
    layer, norm = agent.critic.net[0], agent.critic.net[1]
    assert isinstance(layer, Linears) and isinstance(norm, LayerNorms)
    hidden = norm(layer(10.0 * torch.randn(2, 8, 4))).detach()
    shown = (hidden - norm.shift) / norm.scale
    torch.testing.assert_close(shown.mean(2), torch.zeros(2, 8), rtol=0.0, atol=1e-5)


def test_lengths_of_the_zeta_law() -> None:
    """P(n) = 6 / (π n)² below the cap, which has the rest."""
    lengths = zeta_lengths(200_000, seed=1)
    for n in (1, 2, 5):
        expected = 6.0 / (np.pi * n) ** 2
        error = np.sqrt(expected / 200_000)
        assert abs(np.mean(lengths == n) - expected) < 4.0 * error
    rest = 1.0 - sum(6.0 / (np.pi * n) ** 2 for n in range(1, ZETA_CAP))
    assert abs(np.mean(lengths == ZETA_CAP) - rest) < 4.0 * np.sqrt(rest / 200_000)


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_noise_is_held_for_zeta_lengths(density: str) -> None:
    """Windows of the noise change after 1 to 16 steps, after one step in six of ten cases."""
    agent = sac(density=density, steps=1, policy_kwargs={"net_arch": [16], "noise_hold": "zeta"})
    state, windows = None, []
    for _ in range(60):
        _, state = agent.predict(np.ones((50, 2), np.float32), state)
        windows.append(state[0][:, 0])
    changes = np.diff(np.stack(windows), axis=0) != 0.0
    gaps = np.concatenate([np.diff(np.flatnonzero(column)) for column in changes.T])
    assert gaps.max() <= ZETA_CAP and 0.5 < np.mean(gaps == 1) < 0.72
    agent.learn(20, reset_num_timesteps=False)


def test_mbpo_in_vecnormalize_learns_from_steps_as_it_sees_them(tmp_path: Path) -> None:
    """The model is in the environment's units; both halves of a batch are normalised alike."""
    env = VecNormalize(DummyVecEnv([Walk]), gamma=0.9)
    agent = MBPO("gaussian", env, dynamics="gaussian", real_share=0.5, **MODEL).learn(50)
    raw = set(agent.imagined._all[0][:, 0].tolist())
    assert max(map(abs, raw)) > 0.0
    batch = agent.replay_buffer.sample(20, env=env)
    mixed, _ = agent._mixed(batch)
    shown = {float(env.normalize_obs(np.array([[s]]))[0, 0]) for s in raw}
    assert all(min(abs(s - x) for x in shown) < 1e-5 for s in mixed.observations[10:, 0].tolist())
    rewards = {
        float(env.normalize_reward(np.array([r]))[0]) for r in agent.imagined._all[4][:, 0].tolist()
    }
    assert all(min(abs(r - x) for x in rewards) < 1e-5 for r in mixed.rewards[10:, 0].tolist())
    agent.save(tmp_path / "agent.zip")


def test_mbpo_takes_the_switches() -> None:
    """All at once, with a critic that shares its pass."""
    agent = MBPO(
        "cvae", Walk(), dynamics="gaussian", critic="crossq", normalize_observations=True,
        scale_rewards=True, policy_delay=2, target_entropy="-|A|/2", **MODEL,
    ).learn(50)  # fmt: skip
    assert agent.policy.normalizer is not None and agent.critic_target is agent.critic
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())


def test_return_scale_starts_again_with_each_episode() -> None:
    """A return does not run on over the end of an episode, or into another call of learn."""
    scale = ReturnScale(1.0)
    for reward, done in ((1.0, True), (1.0, False), (1.0, True)):
        scale.update(np.array([reward]), np.array([done]))
    assert float(scale.moments.running_mean) == pytest.approx(4.0 / 3.0)
    scale.update(np.array([1.0]), np.array([False]))
    scale.begin()
    scale.update(np.array([1.0]), np.array([False]))
    assert float(scale.moments.running_mean) == pytest.approx(6.0 / 5.0)


@pytest.mark.parametrize("switch", ["normalize_observations", "scale_rewards"])
def test_a_switch_is_on_or_off(switch: str) -> None:
    """A word that sounds like one of them is refused in a line."""
    with pytest.raises(ValueError, match=f"{switch}: got 'false', expected True or False"):
        SAC("gaussian", TinyEnv(), **{switch: "false"})
