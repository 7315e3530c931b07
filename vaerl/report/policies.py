"""The policies of runs, loaded from their checkpoints; their densities and roll-outs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from vaerl.disk.errors import RunFailed, one_line
from vaerl.envs.making import declared
from vaerl.report.policy_density import PolicyDensity
from vaerl.report.records import RunRecord
from vaerl.runs.evaluate import EvalResult, evaluate, own_randomness
from vaerl.runs.monitor import watched
from vaerl.runs.train import load_run

PROBE_STATES = 4  # rows of a density picture
ROLL_OUT_STEPS = (0, 50, 150)  # of an episode, if the environment names no states
EPISODES = 100  # roll-outs over the map
SEED = 2_000_003  # of roll-outs made for pictures, away from those of training


class States(NamedTuple):
    """Named observations, stacked into one batch, and where they come from."""

    names: list[str]
    observations: Any
    where: str


@dataclass(frozen=True)
class RunPolicy:
    """The policy of one run at its last checkpoint."""

    record: RunRecord
    agent: Any

    @property
    def has_density(self) -> bool:
        """Whether p(a | s) can be drawn: not of an agent that plans, nor of chunks of actions."""
        policy = self.agent.policy
        density = getattr(getattr(policy, "actor", policy), "density", None)
        return density is not None and density.event_dim == len(self.box[0])

    @property
    def box(self) -> tuple[list[float], list[float]]:
        """Bounds of the action space, each of shape (D,)."""
        space = self.agent.action_space
        space = getattr(space, "single", space)  # of an agent that decides on chunks
        return space.low.ravel().tolist(), space.high.ravel().tolist()

    def value(self, observations: Any) -> PolicyDensity:
        """p(a | s) at a batch of observations, actions in the units of the environment."""
        return PolicyDensity(self.agent, observations)


@dataclass(frozen=True)
class ActedRun:
    """The roll-outs of a run's policy on the map of its environment.

    `trace_goals` are the goals of `traces`. `goals` come from the run's last evaluation if it
    stored any, otherwise from the traces.
    """

    record: RunRecord
    env: Any
    traces: Sequence[np.ndarray]
    trace_goals: list[int]
    goals: list[int]


def load_policies(records: Sequence[RunRecord]) -> tuple[list[RunPolicy], list[str]]:
    """Load the policy of every run with a usable checkpoint; report each other run in one line.

    The environment is the one that config.json names. It has to be registered: the report imports
    no module that a run's files name.
    """
    policies, missing = [], []
    for record in records:
        try:
            agent, _, _ = load_run(record.directory.path)
        except (ValueError, RunFailed) as error:
            missing.append(f"{record.label}: the policy cannot be shown. {one_line(error, 200)}")
            continue
        policies.append(RunPolicy(record, agent))
    return policies, missing


def chosen_states(policy: RunPolicy) -> States:
    """Choose the states at which policies are compared.

    These are the environment's `probe_observations`. Without any, `policy` acts for an episode, and
    the states are those after `ROLL_OUT_STEPS` steps.
    """
    with watched(policy.record.env, policy.record.env_options) as env:
        probes = getattr(declared(env), "probe_observations", None)
        if probes is not None:
            named = list(probes().items())
            kept = np.unique(np.linspace(0, len(named) - 1, PROBE_STATES).round().astype(int))
            named = [named[i] for i in kept]
            where = "The environment names the states."
        else:
            named = _visited(env, policy.agent)
            where = f"States from one episode of {policy.record.label}."
    return States([name for name, _ in named], _stack([obs for _, obs in named]), where)


def act_on_map(policy: RunPolicy) -> ActedRun | None:
    """Act on the map of the environment; None if it has no map."""
    with watched(policy.record.env, policy.record.env_options) as env:
        if not hasattr(declared(env), "map_artist"):
            return None
        result = _act(policy, EPISODES)
        if result.lengths.max() == 1:  # a bandit: episodes cost nothing and show little each
            result = _act(policy, 10 * EPISODES)
        reached = result.goals.tolist()
        goals = policy.record.goals or reached
        return ActedRun(
            policy.record, env.unwrapped, result.traces, reached[: len(result.traces)], goals
        )


def _act(policy: RunPolicy, episodes: int) -> EvalResult:
    return evaluate(
        policy.agent,
        policy.record.env,
        episodes=episodes,
        seed=SEED,
        env_options=policy.record.env_options,
        traces=episodes,
    )


def _visited(env: gymnasium.Env, agent: Any) -> list[tuple[str, Any]]:
    """Observations of one episode at `ROLL_OUT_STEPS`, fewer where it ends before."""
    named = []
    with own_randomness(agent, SEED):
        observation, _ = env.reset(seed=SEED)
        for step in range(max(ROLL_OUT_STEPS) + 1):
            if step in ROLL_OUT_STEPS:
                named.append((f"step {step}", observation))
            action, _ = agent.predict(observation)
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    return named


def _stack(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    return np.stack(observations)
