"""Learning from data with rewards: better than the data, within it, over any density."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from vaerl.agents import IDQL, IQL, PLAS, agent_class
from vaerl.agents.iql import advantage_weights, expectile_loss
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.data import Demonstrations, Episode, collect
from vaerl.data.transitions import transitions
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import load_run, train

OBS, ACT = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (1,))
AGENTS: list[Any] = [IQL, IDQL, PLAS]
SMALL: dict[str, Any] = {"net_arch": [32], "critic_arch": [32], "wavelengths": []}


def two_ways(episodes: int = 150, space: Any = OBS) -> Demonstrations:
    """One step each, of 0.5 or −0.5 at one half; only the second earns its reward."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(episodes):
        way = 0.5 * (-1) ** i
        seen: Any = rng.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        if isinstance(space, spaces.Dict):
            seen = {"a": seen[:, :1], "b": seen[:, 1:]}
        action = np.clip(way + 0.02 * rng.normal(size=(1, 1)), -1.0, 1.0)
        found.append(Episode(seen, action, np.array([float(way < 0)]), terminated=True))
    return Demonstrations(found, space, ACT)


def fitted(kind: Any, density: str = "cvae", steps: int = 300, **options: Any) -> Any:
    own = {**SMALL, **({"latent_arch": [32]} if kind is PLAS else {})}
    defaults = {"policy_kwargs": own, "learning_rate": 3e-3, "batch_size": 64, "tau": 0.05}
    data = options.pop("data", None) or two_ways()
    return kind(density, data=data, seed=0, device="cpu", **{**defaults, **options}).learn(steps)


def acts(agent: Any, rows: int = 100, deterministic: bool = False) -> np.ndarray:
    seen = np.random.default_rng(1).uniform(-1.0, 1.0, (rows, 2)).astype(np.float32)
    return agent.predict(seen, deterministic=deterministic)[0][:, 0]


@pytest.mark.parametrize("kind", AGENTS)
def test_the_better_way_is_taken_as_the_data_takes_it(kind: Any) -> None:
    """Better than the data, whose mean reward is one half, and at −0.5, where the data lies."""
    options = {"beta": 10.0} if kind is IQL else {}
    agent = fitted(kind, **options)
    for deterministic in (False, True):
        actions = acts(agent, deterministic=deterministic)
        assert (np.abs(actions + 0.5) < 0.2).mean() > 0.9


def test_without_weights_both_ways_stay() -> None:
    """β = 0 clones, and one draw takes what the density gives; four standard errors."""
    for agent in (fitted(IQL, beta=0.0), fitted(IDQL, draws=1)):
        ways = acts(agent, 400)
        assert (np.abs(np.abs(ways) - 0.5) < 0.2).mean() > 0.9
        assert abs((ways > 0).mean() - 0.5) < 4.0 * 0.5 / 400**0.5 + 0.05


@pytest.mark.parametrize("density", ["gaussian", "mixture", "flow"])
def test_any_density_is_weighted(density: str) -> None:
    if density == "flow":
        pytest.importorskip("zuko")
    agent = fitted(IQL, density, beta=10.0, steps=200)
    assert acts(agent).mean() < -0.3


def test_the_value_is_an_expectile() -> None:
    """Of 0 and 1 at one half each the τ-expectile is τ."""
    q = torch.tensor([0.0, 1.0])
    for expectile in (0.5, 0.8):
        v = torch.tensor(0.0, requires_grad=True)
        grid = torch.linspace(0.0, 1.0, 101)
        losses = torch.stack([expectile_loss(q - g, expectile) for g in grid])
        assert float(grid[losses.argmin()]) == pytest.approx(expectile, abs=0.01)
        expectile_loss(q - v, expectile).backward()
        assert v.grad is not None and v.grad < 0


def test_weights_are_clipped_and_carry_no_gradient() -> None:
    advantage = torch.tensor([0.0, 1.0, 100.0], requires_grad=True)
    weights = advantage_weights(advantage, 1.0, 5.0)
    assert weights.tolist() == pytest.approx([1.0, np.e, 5.0]) and not weights.requires_grad


def test_the_end_of_a_task_has_no_value_and_a_cut_has() -> None:
    """Reward 1 a step, γ = 1/2: 2 where episodes are cut, 1 where the first step ends them."""
    for terminated, worth in ((True, 1.0), (False, 2.0)):
        seen = np.zeros((2, 2), np.float32)
        ends = {"terminated": terminated, "truncated": not terminated}
        action = np.array([[0.1]])
        episodes = [Episode(seen, action * (-1) ** i, np.ones(1), **ends) for i in range(8)]
        data = Demonstrations(episodes, OBS, ACT)
        agent = fitted(IQL, "gaussian", data=data, gamma=0.5, expectile=0.5)
        policy = agent.policy
        with torch.no_grad():
            value = policy.value(policy.features(torch.zeros(1, 2)))
        assert float(value) == pytest.approx(worth, abs=0.15)


def test_a_missing_last_observation_costs_a_transition_unless_the_task_ended() -> None:
    seen, actions, rewards = np.arange(6.0).reshape(3, 2), np.zeros((3, 1)), np.arange(3.0)
    box = spaces.Box(-9.0, 9.0, (2,))
    for terminated, count in ((True, 3), (False, 2)):
        data = Demonstrations([Episode(seen, actions, rewards, terminated)], box, ACT)
        found = transitions(data, np.asarray)
        assert len(found.rewards) == count
        np.testing.assert_array_equal(found.next_observations[:2], seen[1:])
        assert found.terminated.tolist() == ([0, 0, 1] if terminated else [0, 0])


# -- known failures of CVAE policies for data ------------------------------------------------------


def test_the_decoder_listens_to_its_latent() -> None:
    """No collapse: at one observation, different latents decode to both ways."""
    policy = fitted(PLAS, cloning=1.0).policy
    assert not policy.frozen
    codes = policy.density.draw_codes(64, seed=0).numpy()
    ways = policy.predict(np.zeros((64, 2), np.float32), codes=codes)[0][:, 0]
    assert (ways > 0.3).any() and (ways < -0.3).any()


def test_the_policy_loss_is_the_bound_of_the_density() -> None:
    """No scale of its own on the KL: with β = 0 IQL's loss is the mean of `density.loss`."""
    agent = fitted(IQL, beta=0.0, steps=20)
    policy = agent.policy
    seen, events = torch.rand(16, 2), torch.randn(16, 1)
    expected, _ = policy.density.loss(
        policy.context(seen), events, generator=torch.Generator().manual_seed(_next_seed(policy))
    )
    weights = advantage_weights(torch.randn(16), 0.0, 100.0)
    batch: Any = type("Batch", (), {"observations": seen, "events": events})
    found = agent._clone(batch, weights, 1.0)["train/policy_loss"]
    torch.testing.assert_close(found, expected.mean().detach(), rtol=1e-5, atol=1e-6)


def _next_seed(policy: Any) -> int:
    """The seed of the policy's next call, without making it."""
    calls = policy.noise.calls
    seed = policy.noise.next_seed()
    policy.noise.calls = calls
    return int(seed)


def test_candidates_are_draws_from_the_prior_that_was_fitted() -> None:
    """No clamped latents, no other law at test time: one draw is the density's own, exactly."""
    policy = fitted(IDQL, draws=1, steps=50).policy
    seen = np.random.default_rng(2).uniform(-1.0, 1.0, (32, 2)).astype(np.float32)
    codes = np.zeros((32, policy.density.code_dim), np.float32)
    seed = _next_seed(policy)
    found = policy._decide(seen[:, None], codes, False)
    with torch.no_grad():
        value = policy.density(policy.context(torch.as_tensor(seen)))
        drawn = value.sample_mean((1,), torch.Generator().manual_seed(seed))[0]
    np.testing.assert_allclose(found[:, 0], policy.chunks(drawn)[:, 0].numpy(), rtol=1e-5)


def test_the_actor_reaches_its_whole_bound_and_no_more() -> None:
    """The actor's noise goes to ±bound, past the ±.5 that others clamp to."""
    policy = fitted(PLAS, steps=20, latent_bound=1.5).policy
    seen: list[torch.Tensor] = []
    given = policy.density.value_given_codes
    policy.density.value_given_codes = lambda context, codes: (
        seen.append(codes),
        given(context, codes),
    )[1]
    with torch.no_grad():
        for sign in (-1.0, 1.0):
            policy.actor_net[-1].bias.fill_(100.0 * sign)
            policy.act(policy.features(torch.zeros(3, 2)), torch.full((3,), 0.25))
    noise = torch.stack(seen)[..., 1:]
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, 1.5), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("kind", AGENTS)
def test_critics_see_the_actions_that_are_carried_out(kind: Any) -> None:
    """No inverted squash: what lies outside the box is moved in before it is judged or taken."""
    agent = fitted(kind, steps=10)
    policy = agent.policy
    far = torch.tensor([[-50.0], [0.1], [50.0]])
    inside = policy.inside(far)
    torch.testing.assert_close(policy.chunks(inside)[:, 0, 0].abs()[[0, 2]], torch.ones(2))
    assert inside[1] == far[1]
    assert np.abs(acts(agent)).max() <= 1.0


# -- as agents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AGENTS)
def test_a_saved_agent_acts_alike_and_goes_on(kind: Any, tmp_path: Path) -> None:
    env = "Pendulum-v1"
    rng = np.random.default_rng(0)
    episode = Episode(
        rng.normal(size=(9, 3)).clip(-1, 1), rng.uniform(-2, 2, (8, 1)), -np.ones(8), truncated=True
    )
    boxes = spaces.Box(np.float32([-1, -1, -8]), np.float32([1, 1, 8])), spaces.Box(-2.0, 2.0, (1,))
    data = Demonstrations([episode], *boxes)
    kwargs = {"policy_kwargs": {"net_arch": [8], "critic_arch": [8]}, "batch_size": 8}
    agent = kind("cvae", env, data, seed=0, device="cpu", **kwargs).learn(10)
    seen = np.full((3, 3), 0.2, np.float32)
    best = agent.predict(seen, deterministic=True)[0]
    agent.save(tmp_path / "agent.zip")
    save_checkpoint(agent, tmp_path / "checkpoints")
    for loaded in (
        kind.load(tmp_path / "agent.zip"),
        load_checkpoint(tmp_path / "checkpoints"),
    ):
        acted = loaded.predict(seen, deterministic=True)[0]
        np.testing.assert_allclose(acted, best, rtol=1e-6)
        loaded.learn(4, reset_num_timesteps=False, data=data)
        assert loaded.num_timesteps == 14


def test_a_frozen_decoder_stays_when_training_goes_on() -> None:
    agent = fitted(PLAS, steps=20)
    policy = agent.policy
    assert policy.frozen
    before = [p.clone() for p in policy.density_parameters()]
    actor = policy.actor_net[0].weight.clone()
    agent.learn(200, reset_num_timesteps=False)
    for old, new in zip(before, policy.density_parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(actor, policy.actor_net[0].weight)


@pytest.mark.parametrize("kind", AGENTS)
def test_observations_may_be_dicts(kind: Any) -> None:
    space = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (1,)), "b": spaces.Box(-1.0, 1.0, (1,))})
    agent = fitted(kind, data=two_ways(10, space), steps=5)
    seen = {"a": np.zeros((3, 1), np.float32), "b": np.zeros((3, 1), np.float32)}
    assert agent.predict(seen)[0].shape == (3, 1)
    assert agent.predict({key: part[0] for key, part in seen.items()})[0].shape == (1,)


def test_softmax_choice_draws_by_q_and_argmax_does_not() -> None:
    sharp = fitted(IDQL, choice="softmax", temperature=1e-3)
    soft = fitted(IDQL, choice="softmax", temperature=1e3)
    assert (acts(sharp) < 0).mean() > 0.9 and 0.2 < (acts(soft) < 0).mean() < 0.8


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (PLAS, {"density": "mixture"}, "density: got 'mixture', expected one with latent codes"),
        (PLAS, {"latent_bound": 0.0}, "latent_bound: got 0.0"),
        (IDQL, {"choice": "best"}, "choice: got 'best'"),
        (IDQL, {"draws": 0}, "draws: got 0"),
        (IDQL, {"temperature": 0.0}, "temperature: got 0.0"),
        (IQL, {"expectile": 2.0}, "expectile: got 2.0"),
        (IQL, {"beta": -1.0}, "beta: got -1.0"),
        (IQL, {"policy_kwargs": {"chunk": 4}}, "chunk: got 4, expected 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    kind: Any, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        fitted(kind, **({"steps": 1} | options))


@pytest.mark.parametrize("name", ["iql", "idql", "plas"])
def test_a_run_trains_resumes_and_loads(name: str, tmp_path: Path) -> None:
    demos = tmp_path / "demos"
    collect("Pendulum-v1", "random", 1, out=demos, env_options={"max_episode_steps": 20})

    def config(steps: int) -> TrainConfig:
        return TrainConfig(
            "Pendulum-v1",
            agent=name,
            density="cvae",
            data=str(demos),
            steps=steps,
            out=str(tmp_path / "run"),
            agent_options=dict(agent_class(name).debug_options),
            device="cpu",
            eval_every=0,
            picture_every=0,
            video=False,
            final_episodes=1,
        )

    train(config(4))
    run = train(config(6), resume=True)
    assert run.status()["steps"] == 6
    agent, _, _ = load_run(run.path)
    assert agent.predict(np.zeros(3, np.float32))[0].shape == (1,)


@pytest.mark.parametrize("kind", [IDQL, PLAS])
def test_a_temperature_that_would_not_count_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"latent_temperature: got 0\.5, expected 1"):
        kind("cvae", data=two_ways(), policy_kwargs={**SMALL, "latent_temperature": 0.5})
