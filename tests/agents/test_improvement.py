"""The forward step draws from exp(Q/α)/Z, and with it a policy keeps modes that reverse loses."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stable_baselines3.sac
import torch
from gymnasium import Env, spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.policies.common import TinyEnv
from vaerl.agents import SAC
from vaerl.agents.critics import Critics
from vaerl.agents.improvement import Improvement, make_improvement, propose, resample
from vaerl.agents.temperature import Annealed, entropy_target
from vaerl.densities import make_density

FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}
TINY: dict[str, Any] = {"net_arch": [16]}
MODES = np.array([[-0.5, 0.0], [0.5, 0.0]])
WIDTH = 0.1


def two_modes(actions: torch.Tensor) -> torch.Tensor:
    """The log-density of two equal modes, up to a constant."""
    modes = torch.as_tensor(MODES, dtype=actions.dtype)
    nats = -0.5 * ((actions.unsqueeze(-2) - modes) / WIDTH).square().sum(-1)
    return torch.logsumexp(nats, dim=-1)


class TwoModes(Env):
    """One state, one step, the reward is `two_modes`."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = two_modes(torch.as_tensor(action)).item()
        return np.zeros(1, np.float32), reward, True, False, {}


class KnownReward(Critics):
    """A critic that has nothing to learn, so that the test sees the actor alone."""

    def regress(self, step: Any) -> torch.Tensor:
        return torch.zeros(())

    def settle(self) -> None:
        """Nothing to do."""

    def lowest(self, obs: Any, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        actions = actions.detach().requires_grad_()
        q = two_modes(actions)
        return q.detach(), torch.autograd.grad(q.sum(), actions)[0]

    def values(self, obs: Any, actions: torch.Tensor) -> torch.Tensor:
        return two_modes(actions)


def a_value(name: str = "gaussian", batch: int = 3) -> Any:
    """π at a few contexts, far from uniform."""
    torch.manual_seed(0)
    options = {"sigma": 0.4} if name == "gaussian" else {"hidden": 8, "prior_components": 2}
    density = make_density(name, context_dim=2, event_dim=2, squash=True, **options)
    return density(torch.randn(batch, 2))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_candidates_integrate_the_box(share: float) -> None:
    """E_r[1/r] is the area of the box, so r is the density that the candidates come from."""
    generator = torch.Generator().manual_seed(0)
    actions, log_r = propose(a_value(), 40_000, share, 4, generator)
    area = torch.exp(-log_r.double())
    error = area.std(0) / math.sqrt(area.shape[0]) + 1e-6
    assert actions.abs().max() <= 1.0
    assert ((area.mean(0) - 4.0).abs() < 5.0 * error).all(), (area.mean(0), error)


@pytest.mark.parametrize("name", ["gaussian", "cvae"])
def test_draws_follow_the_target_and_not_the_policy(name: str) -> None:
    """A bump that π leaves out is drawn as often as exp(Q/α) says."""
    value = a_value(name, batch=2000)
    generator = torch.Generator().manual_seed(1)
    actions, log_r = propose(value, 128, 0.25, 4, generator)
    modes = torch.tensor(MODES, dtype=torch.float32)
    bumps = -0.5 * ((actions.unsqueeze(-2) - modes) / 0.2).square().sum(-1)
    q = torch.logaddexp(bumps[..., 0] + math.log(0.3), bumps[..., 1] + math.log(0.7))
    chosen = resample(actions, q - log_r, generator)
    share = (chosen[:, 0] < 0.0).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.05)
    near = (chosen - modes[1]).norm(dim=-1)[chosen[:, 0] >= 0.0]
    assert near.square().mean().sqrt().item() == pytest.approx(0.2 * math.sqrt(2.0), rel=0.15)


def test_both_starts_the_reverse_step_where_told() -> None:
    both = Improvement("both", reverse_start=0.25)
    assert [both.reverse(left) for left in (1.0, 0.8, 0.75, 0.0)] == [False, False, True, True]
    assert Improvement("reverse").reverse(1.0) and not Improvement("forward").reverse(0.0)


def test_both_ends_the_forward_step_where_told() -> None:
    both = Improvement("both", reverse_start=0.25, forward_end=0.75)
    assert [both.forward(left) for left in (1.0, 0.25, 0.2, 0.0)] == [True, True, False, False]
    assert Improvement("forward").forward(0.0) and not Improvement("reverse").forward(1.0)


def test_shares_move_only_by_the_forward_step_and_its_weights() -> None:
    """The critic turns to one mode: learned weights follow while the forward step goes on; equal
    ones stay, and so do learned ones once it has ended."""

    class Turned(KnownReward):
        def lowest(self, obs: Any, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            actions = actions.detach().requires_grad_()
            q = two_modes(actions) + 5.0 * (actions[:, 0] > 0.0)
            return q.detach(), torch.autograd.grad(q.sum(), actions)[0]

        def values(self, obs: Any, actions: torch.Tensor) -> torch.Tensor:
            return two_modes(actions) + 5.0 * (actions[..., 0] > 0.0)

    def share(weights: str, forward_end: float) -> float:
        options = {"reverse_start": 0.5, "forward_end": forward_end}
        agent = SAC(
            "mixture",
            DummyVecEnv([TwoModes] * 8),
            policy_kwargs={"net_arch": [16], "density_kwargs": {"weights": weights}},
            learning_rate=3e-3,
            learning_starts=64,
            batch_size=64,
            ent_coef=1.0,
            improvement="both",
            improvement_kwargs=options,
            seed=0,
        )
        agent._critics = KnownReward.__new__(KnownReward)
        agent.learn(64)
        for cls, left, updates in ((KnownReward, 0.6, 300), (Turned, 0.1, 300)):
            agent._critics = cls.__new__(cls)
            agent._current_progress_remaining = left
            agent.logger.name_to_value.clear()
            agent.train(updates, 64)
        assert ("train/forward_nll" in agent.logger.name_to_value) == (forward_end == 1.0)
        drawn = agent.density_value(np.zeros((1, 1), np.float32)).sample((2000,))[:, 0]
        return (drawn[:, 0] < 0.0).float().mean().item()

    assert share("learned", 1.0) < 0.15
    assert 0.3 < share("equal", 1.0) < 0.7 and 0.3 < share("learned", 0.55) < 0.7


def test_relative_entropy_takes_the_uniform_laws_from_the_target() -> None:
    """y falls by γ α X log 2 where the episode goes on, and not at its end."""

    def targets(relative: bool) -> tuple[torch.Tensor, torch.Tensor]:
        seen: list[torch.Tensor] = []

        class Recorder(KnownReward):
            def regress(self, step: Any) -> torch.Tensor:
                seen.append(step.backup.target(torch.zeros(4, 1)))
                return torch.zeros(())

        agent = SAC(
            "cvae",
            TinyEnv(),
            policy_kwargs=TINY,
            ent_coef=0.5,
            gamma=0.9,
            relative_entropy=relative,
            native=False,
            **FAST,
        )
        agent._setup_learn(10)
        agent._critics = Recorder.__new__(Recorder)
        obs = {"observations": torch.zeros(4, 2), "next_observations": torch.ones(4, 2)}
        rest = {"actions": torch.zeros(4, 2), "rewards": torch.ones(4, 1), "discounts": None}
        dones = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
        agent._update(SimpleNamespace(**obs, **rest, dones=dones))
        return seen[0], dones

    (plain, dones), (relative, _) = targets(False), targets(True)
    expected = (1.0 - dones) * 0.9 * 0.5 * 2.0 * math.log(2.0)
    torch.testing.assert_close(plain - relative, expected, rtol=0.0, atol=1e-6)  # of about 3
    with pytest.raises(ValueError, match="relative_entropy: got 'yes', expected True or False"):
        SAC("cvae", TinyEnv(), policy_kwargs=TINY, relative_entropy="yes", **FAST)  # type: ignore


def test_options_are_checked_when_loaded_too(tmp_path: Path) -> None:
    SAC("gaussian", TinyEnv(), policy_kwargs=TINY, **FAST).save(tmp_path / "agent")
    with pytest.raises(ValueError, match="relative_entropy: got 'no'"):
        SAC.load(tmp_path / "agent", relative_entropy="no")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("froward", {}, "improvement: got 'froward', expected one of reverse, forward, both"),
        ("both", {"candidate": 3}, "improvement_kwargs: got 'candidate'"),
        ("both", {"candidates": 1}, "candidates: got 1, expected a whole number of at least 2"),
        ("both", {"uniform_share": 1.5}, "uniform_share: got 1.5"),
        ("both", {"reverse_weight": 0.0}, "reverse_weight: got 0.0, expected a positive"),
        ("both", {"reverse_start": -1.0}, "reverse_start: got -1.0"),
        ("both", {"forward_end": 0.4}, "forward_end: got 0.4, expected at least reverse_start"),
        ("forward", {"forward_end": 0.4}, "forward_end: got 0.4 with improvement 'forward'"),
    ],
)
def test_wrong_settings_get_one_line(kind: str, settings: dict, words: str) -> None:
    with pytest.raises(ValueError) as error:
        make_improvement(kind, settings)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_policy_without_a_density_is_refused() -> None:
    theirs = stable_baselines3.sac.policies.SACPolicy
    with pytest.raises(ValueError, match="expected 'reverse' or a policy over a density"):
        SAC(theirs, TinyEnv(), policy_kwargs=TINY, improvement="both", **FAST)


@pytest.mark.parametrize("density", ["gaussian", "mixture", "cvae"])
@pytest.mark.parametrize("kind", ["forward", "both"])
def test_any_density_learns_and_loads(density: str, kind: str, tmp_path: Path) -> None:
    """Every number of the actor moves, and a loaded agent goes on with the same step."""
    settings = {"candidates": 4, "reverse_start": 0.0}
    agent = SAC(
        density,
        TinyEnv(dict_obs=True),
        policy_kwargs=TINY,
        improvement=kind,
        improvement_kwargs=settings,
        **FAST,
    )
    before = {k: v.clone() for k, v in agent.actor.named_parameters()}
    agent.learn(40)
    moved = {k: not torch.equal(v, before[k]) for k, v in agent.actor.named_parameters()}
    assert all(moved.values()), moved
    agent.save(tmp_path / "agent")
    again = SAC.load(tmp_path / "agent", env=TinyEnv(dict_obs=True))
    assert again._improvement == Improvement(kind, **settings)
    again.learn(20)


def test_temperature_is_annealed_geometrically() -> None:
    """10 → 1 over the first half; the text survives in the agent, so that it can be saved."""
    annealed = Annealed.parse("anneal_10_1")
    assert [annealed(left) for left in (1.0, 0.5, 0.0)] == [10.0, 1.0, 1.0]
    late = Annealed.parse("anneal_100_1_0.75_0.25")
    assert [late(left) for left in (1.0, 0.75, 0.5, 0.25, 0.0)] == [100.0, 100.0, 10.0, 1.0, 1.0]
    agent = SAC("gaussian", TinyEnv(), policy_kwargs=TINY, ent_coef="anneal_4_1", **FAST)
    assert (agent.ent_coef, agent.ent_coef_tensor.item()) == ("anneal_4_1", 4.0)
    agent.learn(40)
    assert agent.ent_coef_tensor.item() == 1.0


WRONG = ["anneal", "anneal_1", "anneal_0_1", "anneal_1_2_3", "warm_1_2", "auto_0", "auto1", "nan"]
WRONG += ["anneal_1_2_0", "anneal_1_2_0.5_0.5", "anneal_1_2_nan", "anneal_1_2_0.5_0.2_1"]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_temperatures_get_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=f"ent_coef: got '{text}', expected a positive number"):
        SAC("gaussian", TinyEnv(), policy_kwargs=TINY, ent_coef=text, **FAST)


def test_target_entropy_counts_modes() -> None:
    """M modes, each as wide as SAC's own target, have log M nats more."""
    assert entropy_target("modes_1", 6) == -6.0
    agent = SAC("cvae", TinyEnv(), policy_kwargs=TINY, target_entropy="modes_3", **FAST)
    assert agent.target_entropy == pytest.approx(math.log(3.0) - 2.0)
    with pytest.raises(ValueError, match="target_entropy: got 'modes_0', expected a number"):
        SAC("cvae", TinyEnv(), policy_kwargs=TINY, target_entropy="modes_0", **FAST)


def test_numbers_may_be_texts_as_in_sb3() -> None:
    """They come out as SB3 reads them, and "auto_START" is left to it."""
    texts = {"ent_coef": "0.1", "target_entropy": "-3"}
    for cls, policy in ((SAC, "gaussian"), (stable_baselines3.SAC, "MlpPolicy")):
        agent: Any = cls(policy, TinyEnv(), policy_kwargs=TINY, **texts, **FAST)
        assert (agent.ent_coef_tensor.item(), agent.target_entropy) == (pytest.approx(0.1), -3.0)
    agent = SAC("gaussian", TinyEnv(), policy_kwargs=TINY, ent_coef="auto_0.5", **FAST).learn(20)
    assert agent.logger.name_to_value["train/ent_coef"] == pytest.approx(0.5, rel=1e-2)


def shares(density: str, seed: int) -> list[float]:
    """Shares of a trained policy's samples within 3 widths of each mode."""
    agent = SAC(
        density,
        DummyVecEnv([TwoModes] * 8),
        policy_kwargs={"net_arch": [16]},
        learning_rate=5e-3,
        learning_starts=64,
        batch_size=64,
        gradient_steps=8,
        ent_coef=1.0,
        seed=seed,
        improvement="both",
    )
    agent._critics = KnownReward(agent.critic, agent.critic_target)
    agent.learn(64 + 260)
    draws = agent.density_value(np.zeros((1, 1), np.float32)).sample((2000,))[:, 0].numpy()
    distance = np.linalg.norm(draws[:, None] - MODES, axis=-1)
    return [float(np.mean(distance[:, m] < 3.0 * WIDTH)) for m in range(2)]


def test_the_cvae_keeps_both_modes_and_the_gaussian_cannot() -> None:
    """Under the same step: both modes and little in between, or one wide bump over both.

    Where the modes' shares end is decided early and by little, so of three seeds most have to be
    even.
    """
    cvae, gaussian = ([shares(name, seed) for seed in range(3)] for name in ("cvae", "gaussian"))
    assert all(sum(each) > 0.85 for each in cvae), cvae
    assert sorted(map(min, cvae))[1] > 0.15, cvae
    assert all(sum(each) < 0.85 for each in gaussian), gaussian
