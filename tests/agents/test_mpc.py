"""MPC: learns a model from its own steps, plans with it, and is an SB3 agent."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.agents.model_tasks import KnownWalk, Walk
from vaerl.agents import MPC, SAC
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint
from vaerl.dynamics import replay_transitions
from vaerl.planning import Plan

PLANNER = {"horizon": 3, "population": 16, "elites": 4, "iterations": 2, "particles": 2}
FAST: dict[str, Any] = {
    "learning_starts": 60,
    "train_freq": 60,
    "gradient_steps": 150,
    "batch_size": 64,
    "buffer_size": 500,
    "members": 2,
    "learning_rate": 1e-2,
    "planner_kwargs": PLANNER,
    "seed": 0,
}
TINY = {**FAST, "learning_starts": 20, "train_freq": 20, "gradient_steps": 5}


def states() -> np.ndarray:
    """A few places on the line."""
    return np.linspace(-2.0, 2.0, 5, dtype=np.float32)[:, None]


@pytest.mark.parametrize("discrete", [False, True])
def test_it_learns_to_go_to_the_middle(discrete: bool) -> None:
    """After 240 steps it loses little more than half of what random actions lose, or less."""
    agent = MPC("gaussian", Monitor(Walk(discrete)), **FAST).learn(240)
    assert int(agent.world.fits) == 3
    mean, _ = evaluate_policy(agent, Monitor(Walk(discrete)), n_eval_episodes=10)
    random = np.mean([info["r"] for info in list(agent.ep_info_buffer)[:6]])
    assert mean > 0.6 * random
    right, _ = agent.predict(np.array([-2.0], np.float32), deterministic=True)
    left, _ = agent.predict(np.array([2.0], np.float32), deterministic=True)
    assert np.all(left < right)


def test_predict_carries_its_plan_as_state() -> None:
    """Deterministic prediction depends on observation and state alone; fresh episodes forget."""
    agent = MPC("gaussian", Walk(), **TINY).learn(40)
    first, state = agent.predict(states(), deterministic=True)
    again, _ = agent.predict(states(), deterministic=True)
    assert first.shape == (5, 1) and np.array_equal(first, again)
    assert np.abs(first).max() <= 2.0
    warm, _ = agent.predict(states(), state, np.zeros(5, bool), deterministic=True)
    cold, _ = agent.predict(states(), state, np.ones(5, bool), deterministic=True)
    assert np.array_equal(cold, first) and not np.array_equal(warm, first)
    half, following = agent.predict(states(), state, np.arange(5) < 2, deterministic=True)
    assert half.shape == (5, 1)
    assert [part.shape for part in following] == [part.shape for part in state]
    drawn = [agent.predict(states())[0] for _ in range(2)]
    assert not np.array_equal(*drawn)
    for seen, wrong, starts, message in (
        (states()[0], state, None, "state: got a plan of shapes .* for 1 states"),
        (states(), (), None, "state: got a tuple of 0, expected the state that predict returned"),
        (states(), state, [True], "episode_start: got 1 values, expected one for each of the 5"),
    ):
        with pytest.raises(ValueError, match=message):
            agent.predict(seen, wrong, starts)


@pytest.mark.parametrize("planner", ["random", "cem", "icem", "mppi"])
def test_a_new_episode_owes_nothing_to_the_old_plan(planner: str) -> None:
    """Not even where planning stops early, which tries the last plan; others go on from theirs."""
    agent = MPC(
        "gaussian",
        Walk(),
        **{**TINY, "planner": planner, "planner_kwargs": {"horizon": 3, "early_stop": True}},
    )
    _, state = agent.predict(states(), deterministic=True)
    starts = np.arange(5) < 2
    found = []
    for deterministic in (True, False):
        for last in (0.9, -0.9):
            changed = tuple(part.copy() for part in state)
            for part in changed:
                part[:2] = last
            agent.policy.noise.reseed(0)
            found.append(agent.predict(states(), changed, starts, deterministic)[0])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[2], found[3])
    fresh, _ = agent.predict(states(), deterministic=True)
    assert np.array_equal(found[0][:2], fresh[:2])


def test_each_observation_gets_its_own_action_where_some_episodes_start() -> None:
    """New rows are planned apart from old ones and come back in their places."""
    agent = MPC("gaussian", Walk(), **TINY)
    _, state = agent.predict(states())

    def echo(seen: torch.Tensor, warm: Any = None, generator: Any = None) -> Plan:
        sequences = (seen / 4.0).unsqueeze(1).expand(-1, PLANNER["horizon"], -1)
        law = agent.policy.planner.fresh(len(seen), seen.device)
        return Plan(sequences, law, None, lambda: seen[:, 0])

    agent.policy.plan = echo  # type: ignore[method-assign]
    actions, _ = agent.predict(states(), state, np.array([True, False, True, False, False]))
    assert np.array_equal(actions, states() / 2.0)  # ±1 is ±2 in the units of this walk


@pytest.mark.parametrize("modes", [1, 2])
def test_deterministic_actions_do_not_depend_on_other_observations(modes: int) -> None:
    """Alone or in a batch, cold or warm, the same observation gets the same action."""
    agent = MPC("gaussian", Walk(), **{**TINY, "planner_kwargs": {**PLANNER, "modes": modes}})
    alone, last = agent.predict(states()[1], deterministic=True)
    many, state = agent.predict(np.repeat(states()[1:2], 3, 0), deterministic=True)
    assert np.array_equal(many, np.repeat(alone[None], 3, 0))
    warm, _ = agent.predict(states()[2], last, deterministic=True)
    many, _ = agent.predict(np.repeat(states()[2:3], 3, 0), state, deterministic=True)
    assert np.array_equal(many, np.repeat(warm[None], 3, 0))


@pytest.mark.parametrize("planner", ["random", "cem", "icem", "mppi"])
def test_the_options_of_a_first_look_suit_every_planner(planner: str) -> None:
    """`vaerl train mpc --debug` sets nothing that a planner does not know."""
    MPC("gaussian", Walk(), **{**MPC.debug_options, "planner": planner})


def test_while_it_learns_each_plan_starts_from_the_last() -> None:
    """The state of one step comes back in the next, and episodes that start are marked."""
    agent = MPC("gaussian", Walk(), **TINY).learn(40)
    plan, calls = agent.policy.predict, []

    def watch(observation: Any, state: Any = None, episode_start: Any = None) -> Any:
        action, following = plan(observation, state, episode_start)
        calls.append((state, episode_start[0], following))
        return action, following

    agent.policy.predict = watch  # type: ignore[method-assign, assignment]
    agent.learn(25, reset_num_timesteps=False)
    assert all(after[0] is before[2] for before, after in itertools.pairwise(calls))
    starts = [bool(start) for _, start, _ in calls]
    assert 2 <= sum(starts[1:]) <= 12


def test_time_limits_are_no_terminations() -> None:
    """What the model learns as an end is leaving the line, not the tenth step."""
    agent = MPC("gaussian", Walk(), **TINY).learn(60)
    data = replay_transitions(agent.replay_buffer)
    assert torch.equal(data.terminations.bool(), data.next_states.squeeze(1).abs() > 4.0)
    assert agent.replay_buffer.dones.sum() > data.terminations.sum()


@pytest.mark.parametrize(("options", "first_fit"), [({}, 60), ({"holdout": 0.0}, 40)])
def test_with_a_code_an_episode_it_waits_for_the_second(options: dict, first_fit: int) -> None:
    """Random steps until then, unless none is held out."""
    still = Walk(length=50)
    still.action_space = gymnasium.spaces.Box(
        -0.01, 0.01, (1,), np.float32
    )  # no episode ends by itself
    model = {"model_kwargs": {"latent": "episode"}}
    agent = MPC("gaussian", still, policy_kwargs=model, **{**TINY, "fit_kwargs": options})
    for steps in (20, 40, 60):
        agent.learn(20, reset_num_timesteps=False)
        assert agent.num_timesteps == steps
        assert bool(agent.world.fits) == (steps >= first_fit)


def test_saved_and_loaded_it_plans_the_same(tmp_path: Path) -> None:
    """Through SB3's save and through checkpoints, which train on; seeds repeat a training."""
    agent = MPC("mixture", Walk(), **TINY).learn(40)
    expected, _ = agent.predict(states(), deterministic=True)
    agent.save(tmp_path / "agent")
    save_checkpoint(agent, tmp_path / "checkpoints", include_replay=True)
    loaded = [
        MPC.load(tmp_path / "agent", env=Walk()),
        load_checkpoint(tmp_path / "checkpoints", Walk(), include_replay=True),
        load_checkpoint(tmp_path / "checkpoints", Walk()),
        MPC("mixture", Walk(), **TINY).learn(40),
    ]
    for other in loaded:
        assert np.array_equal(other.predict(states(), deterministic=True)[0], expected)
    assert loaded[1].replay_buffer.size() == agent.replay_buffer.size()
    loaded[1].learn(20, reset_num_timesteps=False)
    assert int(loaded[1].world.fits) == int(agent.world.fits) + 1


def test_load_takes_environments_with_discrete_actions(tmp_path: Path) -> None:
    """An instance, a name and a VecEnv, as the constructor does."""
    agent = MPC("gaussian", "CartPole-v1", **TINY).learn(40)
    agent.save(tmp_path / "agent")
    seen = np.zeros((1, 4), dtype=np.float32)
    for env in (gymnasium.make("CartPole-v1"), "CartPole-v1", agent.get_env()):
        loaded = MPC.load(tmp_path / "agent", env=env)
        plans = [each.predict(seen, deterministic=True)[0] for each in (loaded, agent)]
        assert np.array_equal(*plans)
    with pytest.raises(ValueError, match=r"^action_space: got Discrete[^\n]*expected a Box"):
        SAC.load(tmp_path / "agent", env="CartPole-v1")


def test_no_fit_at_the_end_of_a_rate_that_falls_to_zero() -> None:
    """Of two fits that are due the last one has rate 0, and changes nothing."""
    falling = {**TINY, "learning_rate": lambda progress: 1e-2 * progress}
    assert int(MPC("gaussian", Walk(), **falling).learn(60).world.fits) == 1
    own = {"fit_kwargs": {"learning_rate": 1e-2}}
    assert int(MPC("gaussian", Walk(), **falling, **own).learn(60).world.fits) == 2


def test_the_precision_of_roll_outs_is_that_of_the_agent(tmp_path: Path) -> None:
    """Also after it was saved and loaded, and in the forms that plans use."""
    MPC("cvae", Walk(), matmul_precision="bf16", **TINY).learn(30).save(tmp_path / "agent")
    loaded = MPC.load(tmp_path / "agent", env=Walk())
    loaded.predict(states())
    assert loaded.matmul_precision == "bf16"
    folded = loaded.world.folded()
    assert folded is not None and folded.matmul_precision == "bf16"
    assert MPC("cvae", Walk(), **TINY).world.matmul_precision == "float32"


def test_callbacks_are_called_and_can_stop_it() -> None:
    """As in SB3: one call a step, and False ends the training."""

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 30

    agent = MPC("gaussian", Walk(), **TINY).learn(100, callback=Stop())
    assert agent.num_timesteps == 30


def test_copies_of_an_environment_are_planned_for_together() -> None:
    """Two copies: all actions come from one call, and all transitions are learned from."""
    env = DummyVecEnv([Walk, Walk])
    agent = MPC("gaussian", env, **TINY).learn(120)
    assert agent.num_timesteps == 120 and agent.replay_buffer.size() == 60
    assert int(agent.world.fits) >= 2


def test_known_reward_and_end_come_from_the_environment() -> None:
    """They see actions in the environment's units; the model then learns Δs only."""
    agent = MPC("gaussian", KnownWalk(), reward="known", termination="known", **TINY)
    assert agent.world.event_dim == 1 and "termination" not in agent.world.networks
    at = torch.tensor([[3.9], [0.0]])
    step = agent.world.step(at, torch.ones(2, 1))
    expected = 0.2 - step.next_states.abs().squeeze(1)
    torch.testing.assert_close(step.rewards, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(step.dones, step.next_states.abs().squeeze(1) > 4.0)
    agent.learn(60)


def test_known_functions_of_a_wrapper_and_not_through_one_that_changes_them() -> None:
    """A wrapper's own functions win; a plain wrapper is looked through; others are refused."""

    class Halved(gymnasium.RewardWrapper):
        def reward(self, reward: Any) -> Any:
            return 0.5 * reward

    class HalvedAndKnown(gymnasium.Wrapper):
        def reward(self, s: Any, a: Any, after: Any) -> Any:
            return 0.5 * self.unwrapped.reward(s, a, after)  # type: ignore[attr-defined]

    def rewards(env: gymnasium.Env, **options: Any) -> torch.Tensor:
        agent = MPC("gaussian", env, reward="known", **options, **TINY)
        at = torch.tensor([[3.0]])
        found = agent.world.reward
        assert callable(found)
        return found(at, torch.ones(1, 1), at)

    plain = rewards(KnownWalk())
    assert torch.equal(rewards(wrappers.TimeLimit(KnownWalk(), 5)), plain)
    assert torch.equal(rewards(HalvedAndKnown(Halved(KnownWalk()))), 0.5 * plain)
    for wrapped in (
        Halved(KnownWalk()),
        wrappers.RescaleAction(KnownWalk(), -1.0, 1.0),
        wrappers.NormalizeObservation(KnownWalk()),
        wrappers.NormalizeReward(KnownWalk()),
        wrappers.MaxAndSkipObservation(KnownWalk(), 2),
    ):
        name = type(wrapped).__name__
        with pytest.raises(ValueError, match=f"reward: got 'known', but {name} changes"):
            rewards(wrapped)
    MPC("gaussian", Halved(KnownWalk()), termination="known", **TINY)  # ends are as they were


def test_known_functions_are_not_asked_about_observations_of_another_size() -> None:
    """A stack of observations is not what they are functions of."""
    pendulum = DummyVecEnv([lambda: gymnasium.make("InvertedPendulum-v5")])
    for env in (DummyVecEnv([KnownWalk]), pendulum):
        with pytest.raises(
            ValueError, match=r"termination: got 'known', but a wrapper changes obs"
        ):
            MPC("gaussian", VecFrameStack(env, 3), termination="known", **TINY)


def test_a_refused_environment_is_not_taken() -> None:
    """`set_env` leaves the agent where it was, with the functions of its own environment."""
    agent = MPC("gaussian", KnownWalk(), reward="known", **TINY)
    before, known = agent.env, agent.world.reward
    for env in (wrappers.NormalizeReward(KnownWalk()), VecNormalize(DummyVecEnv([KnownWalk]))):
        with pytest.raises(ValueError, match="got"):
            agent.set_env(env)
        assert agent.env is before and agent.world.reward is known


def test_known_functions_give_one_number_a_row() -> None:
    """A column is no row of numbers: one line, not an error of torch."""

    class Column(KnownWalk):
        def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
            return -abs(next_states)

    agent = MPC("gaussian", Column(), reward="known", **TINY)
    with pytest.raises(ValueError, match=r"reward: got shape \(4, 1\) for 4 rows, expected \(4,\)"):
        agent.world.step(torch.zeros(4, 1), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"reward: got shape \(\d+, 1\) for \d+ rows"):
        agent.learn(60)


def test_a_known_reward_needs_its_environment(tmp_path: Path) -> None:
    """Loaded without one, planning says so in one line; loaded with one, it plans."""
    agent = MPC("gaussian", KnownWalk(), reward="known", **TINY).learn(40)
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="reward: got 'known' and no environment to ask"):
        MPC.load(tmp_path / "agent").predict(states())
    save_checkpoint(agent, tmp_path)
    with pytest.raises(ValueError, match=r"not made by gymnasium\.make.*; pass env="):
        load_checkpoint(tmp_path)
    expected, _ = agent.predict(states(), deterministic=True)
    found, _ = load_checkpoint(tmp_path, KnownWalk()).predict(states(), deterministic=True)
    assert np.array_equal(found, expected)
