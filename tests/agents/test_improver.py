"""From cloned to better: PPO takes a clone over exactly, decides in chunks, and keeps its ways."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.policies.common import DENSITIES
from vaerl.agents import BC, PPO
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.data import Demonstrations, Episode
from vaerl.densities.normal import MixtureValue, NormalMixture
from vaerl.policies.decisions import Decisions
from vaerl.policies.keep import clone_divergence, code_information

OBS, ACT = spaces.Box(-9.0, 9.0, (2,)), spaces.Box(-1.0, 1.0, (1,))
TINY: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}


class Line(gymnasium.Env):
    """[steps taken, where the actions led]; the reward of step t is t; `length` steps."""

    def __init__(self, length: int = 7, cut: bool = False) -> None:
        self.observation_space, self.action_space = OBS, ACT
        self.length, self.cut = length, cut

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.place = 0, 0.0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        self.place += float(action[0])
        over = self.time == self.length
        return self._seen(), float(self.time), over and not self.cut, over and self.cut, {}

    def _seen(self) -> np.ndarray:
        return np.array([self.time, self.place], np.float32)


gymnasium.register("tests/Line-v0", Line)


def demonstrations(episodes: int = 12, steps: int = 7) -> Demonstrations:
    """Each episode goes left or right throughout."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(episodes):
        actions = 0.5 * (-1) ** i + 0.05 * rng.normal(size=(steps, 1))
        places = np.concatenate([np.zeros((1, 1)), actions.cumsum(0)])
        observations = np.concatenate([np.arange(steps + 1)[:, None], places], axis=1)
        found.append(Episode(observations, actions, terminated=True))
    return Demonstrations(found, OBS, ACT)


@cache
def cloned(density: str = "cvae", steps: int = 20, **more: Any) -> BC:
    """A clone with two steps a decision; nothing here changes it."""
    options: dict[str, Any] = {"chunk": 4, "execute": 2, "history": 2, "seed": 0, "device": "cpu"}
    options["policy_kwargs"] = {"net_arch": [16]}
    return BC(density, "tests/Line-v0", demonstrations(), **options, **more).learn(steps)


def walk(agent: Any, steps: int = 6, rows: int = 5, **options: Any) -> np.ndarray:
    """Actions ``(steps, rows)`` at fixed observations, from noise of a fixed seed."""
    agent.set_random_seed(3)
    rng, state, start = np.random.default_rng(1), None, np.ones(rows, bool)
    found = []
    for _ in range(steps):
        seen = rng.uniform(-1.0, 1.0, (rows, 2)).astype(np.float32)
        action, state = agent.predict(seen, state, start, **options)
        start = np.zeros(rows, bool)
        found.append(action[:, 0])
    return np.stack(found)


# -- decisions -------------------------------------------------------------------------------------


def decisions(cut: bool = False, copies: int = 2, history: int = 3) -> Decisions:
    env = DummyVecEnv([lambda: Line(cut=cut)] * copies)
    return Decisions(env, 4, 3, history, 0.5)


def test_a_decision_carries_out_its_share_of_the_chunk_and_discounts_within() -> None:
    """Three of four actions; 1 + γ^⅓ 2 + γ^⅔ 3; the last three observations, oldest first."""
    env = decisions()
    first = env.reset()
    np.testing.assert_array_equal(first, np.zeros((2, 6)))
    chunk = np.array([[0.1, 0.2, 0.3, 9.0], [-0.1, 0.0, 0.0, 9.0]], np.float32)
    seen, reward, done, _ = env.step(chunk)
    np.testing.assert_allclose(seen[0], [1, 0.1, 2, 0.3, 3, 0.6], rtol=0, atol=1e-6)
    np.testing.assert_allclose(seen[1], [1, -0.1, 2, -0.1, 3, -0.1], rtol=0, atol=1e-6)
    expected = 1 + 0.5 ** (1 / 3) * 2 + 0.5 ** (2 / 3) * 3
    np.testing.assert_allclose(reward, [expected] * 2, rtol=1e-6)
    assert not done.any()


@pytest.mark.parametrize("cut", [False, True])
def test_an_episode_that_ends_within_a_chunk_takes_no_further_step(cut: bool) -> None:
    """Seven steps are three, three and one; the next episode begins with its own observations."""
    env = decisions(cut)
    env.reset()
    for _ in range(2):
        env.step(np.full((2, 4), 0.1, np.float32))
    seen, reward, done, infos = env.step(np.full((2, 4), 0.1, np.float32))
    assert done.all() and reward.tolist() == [7.0, 7.0]
    np.testing.assert_array_equal(seen, np.zeros((2, 6)))
    terminal = infos[0]["terminal_observation"]
    np.testing.assert_allclose(terminal, [5, 0.5, 6, 0.6, 7, 0.7], rtol=0, atol=1e-6)
    assert infos[0]["TimeLimit.truncated"] is cut


def test_normalised_observations_are_refused() -> None:
    env = VecNormalize(DummyVecEnv([Line]))
    with pytest.raises(ValueError, match=r"^env: got a VecNormalize, expected plain"):
        PPO.from_clone(cloned(), env, **TINY)


# -- a clone taken over ----------------------------------------------------------------------------


@pytest.mark.parametrize("density", DENSITIES)
def test_before_the_first_update_the_agent_acts_as_its_clone(density: str) -> None:
    """The same noise gives the same actions, drawn or best, and nothing is left to rounding."""
    clone = cloned(density)
    agent = PPO.from_clone(clone, **TINY)
    for best in (False, True):
        np.testing.assert_array_equal(
            walk(agent, deterministic=best), walk(clone, deterministic=best)
        )


def test_cold_latents_of_a_clone_are_cold_in_training_too() -> None:
    """Fresh codes as well: without noise of their own they differ in the component alone."""
    agent = PPO.from_clone(cloned("cvae", latent_temperature=0.0), **TINY)
    codes = agent.policy.codes
    assert codes is not None
    for _ in range(2):
        assert codes.codes[:, 0].unique().numel() > 1
        assert codes.codes[:, 1:].abs().max() == 0.0
        codes.mark_used()
        codes.refresh(agent.policy.density, agent.policy.noise)


@pytest.mark.parametrize("density", DENSITIES)
def test_the_first_ratio_is_one_and_training_leaves_the_clone_alone(density: str) -> None:
    """Of log π over 4 numbers, float32 sums are off by some 1e-5."""
    agent = PPO.from_clone(cloned(density), **TINY, ent_coef=0.0, clone_coef=0.1)
    before = {
        name: part.clone()
        for name, part in agent.policy.clone.state_dict().items()
        if isinstance(part, torch.Tensor)
    }
    moved = [part.clone() for part in agent.policy.chunks.parameters()]
    agent.learn(8)
    assert agent.logger.name_to_value["train/latent_kl_floor"] < 1e-4
    after = agent.policy.clone.state_dict()
    for name, part in before.items():
        torch.testing.assert_close(after[name], part, rtol=0, atol=0)
    pairs = zip(moved, agent.policy.chunks.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) > 1e-6


def test_it_is_looked_at_as_its_clone() -> None:
    """What an inspection asks of a policy: context, units, chunk and noise of acting."""
    clone = cloned()
    agent = PPO.from_clone(clone, **TINY)
    seen = np.ones((3, 2), np.float32)
    ours, theirs = agent.policy, clone.policy
    assert torch.equal(ours.context_at(seen), theirs.context_at(seen))
    for name in ("chunk", "decoder_noise", "event_units"):
        assert getattr(ours, name) == getattr(theirs, name)
    actions = np.full((3, 4, 1), 0.25, np.float32)
    np.testing.assert_array_equal(ours.to_events(actions), theirs.to_events(actions))
    np.testing.assert_allclose(ours.to_actions(ours.to_events(actions)), actions, atol=1e-6, rtol=0)


def test_reward_moves_the_agent_from_its_clone() -> None:
    """Where going right pays, both ways turn right."""

    class Right(Line):
        def step(self, action: Any) -> Any:
            seen, _, *rest = super().step(action)
            return seen, float(action[0]), *rest

    clone = cloned(steps=400)
    agent = PPO.from_clone(
        clone,
        DummyVecEnv([Right] * 8),
        **TINY | {"n_steps": 32, "batch_size": 64},
        learning_rate=1e-3,
    )
    start = walk(clone, rows=200).mean()
    agent.learn(2000)
    assert walk(agent, rows=200).mean() > start + 0.15


def test_saved_and_loaded_it_acts_the_same(tmp_path: Path) -> None:
    """In our format and in Stable-Baselines3's, with the clone inside."""
    agent = PPO.from_clone(cloned(), **TINY, clone_coef=0.1).learn(16)
    agent.save(tmp_path / "zip")
    for other in (
        load_checkpoint(save_checkpoint(agent, tmp_path / "ours")),
        PPO.load(tmp_path / "zip", env=Line(), device="cpu"),
    ):
        np.testing.assert_array_equal(walk(agent), walk(other))
        ours, theirs = agent.policy.clone.parameters(), other.policy.clone.parameters()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        other.learn(8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clone_coef": -1.0}, "^clone_coef: got -1.0, expected a finite number of at least 0"),
        ({"policy_kwargs": {"chunk": 5}}, "^clone: got chunk 4, the policy has 5"),
        ({"policy_kwargs": {"execute": 5}}, "^execute: got 5, expected at most the chunk of 4"),
    ],
)
def test_what_does_not_fit_the_clone_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPO.from_clone(cloned(), **TINY, **options)


def test_terms_without_a_clone_or_without_codes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^clone_coef: got 0.1, expected 0 without a clone"):
        PPO("cvae", "tests/Line-v0", clone_coef=0.1)
    with pytest.raises(ValueError, match=r"^code_coef: got 0.1, expected 0: density 'gaussian'"):
        PPO.from_clone(cloned("gaussian"), **TINY, code_coef=0.1)
    with pytest.raises(ValueError, match=r"^clone: got PPO, expected an agent of behaviour"):
        PPO.from_clone(PPO("cvae", "tests/Line-v0"), **TINY)


# -- what keeps the ways ---------------------------------------------------------------------------


def mixture(mean: Any, log_sigma: float = 0.0) -> MixtureValue:
    """Two equal parts at three states, in two dimensions."""
    places = torch.as_tensor(mean, dtype=torch.float64).expand(3, 2, 2)
    return MixtureValue(
        NormalMixture(
            torch.full((3, 2), -math.log(2.0), dtype=torch.float64),
            places,
            torch.full_like(places, log_sigma),
        )
    )


def test_the_divergence_from_itself_is_none_and_from_others_that_of_the_draws() -> None:
    """Means of 700 draws at three states; the truth by quadrature of 200,000 draws, off by .01."""
    one, other = mixture([[0.0, 0.0], [3.0, 0.0]]), mixture([[0.5, 0.0], [3.0, 1.0]], 0.2)
    generator = torch.Generator().manual_seed(0)
    assert clone_divergence(one, one, generator).abs().max() < 1e-12
    draws = one.sample((200_000,), torch.Generator().manual_seed(1))
    true = float((one.log_prob(draws) - other.log_prob(draws)).mean())
    found = torch.stack([clone_divergence(other, one, generator) for _ in range(700)])
    error = float(found.std()) / found.numel() ** 0.5
    assert abs(float(found.mean()) - true) < 5.0 * error + 0.01
    swapped = mixture([[3.0, 0.0], [0.0, 0.0]])
    assert clone_divergence(swapped, one, generator).abs().max() < 1e-9  # codes have no names


def test_codes_far_apart_are_told_by_actions_and_equal_ones_are_not() -> None:
    """log 2 nats, and 0; the means of 2000 one-draw estimates are off by some 0.02."""

    def mean(value: MixtureValue) -> float:
        generator = torch.Generator().manual_seed(0)
        return float(sum(code_information(value, generator).mean() for _ in range(700)) / 700)

    assert abs(mean(mixture([[-9.0, 0.0], [9.0, 0.0]])) - math.log(2.0)) < 0.1
    assert abs(mean(mixture([[1.0, 0.0], [1.0, 0.0]]))) < 0.1


def test_a_weight_on_the_clone_keeps_the_agent_near_it() -> None:
    """After the same rollouts the divergence is smaller."""
    far = {}
    for weight in (1e-6, 10.0):
        agent = PPO.from_clone(
            cloned(steps=200), **TINY | {"n_steps": 64}, clone_coef=weight, learning_rate=1e-2
        )
        agent.learn(128)
        far[weight] = agent.logger.name_to_value["train/clone_divergence"]
    assert far[10.0] < 0.5 * far[1e-6]


def test_a_weight_on_codes_keeps_them_apart() -> None:
    told = {}
    for weight in (1e-6, 10.0):
        agent = PPO.from_clone(
            cloned(steps=200), **TINY | {"n_steps": 64}, code_coef=weight, learning_rate=1e-2
        )
        agent.learn(128)
        told[weight] = agent.logger.name_to_value["train/code_information"]
    assert told[10.0] > told[1e-6] + 0.1
