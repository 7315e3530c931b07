"""The two tasks of `risk`: their data, budgets and planners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaerl.dynamics import Transitions
from vaerl.envs.currency_exchange import CurrencyExchangeEnv
from vaerl.envs.hiv_treatment import HIVTreatmentEnv
from vaerl.experiments.dynamics.models import Budget, as_transitions, observe
from vaerl.lab.record import plain
from vaerl.planning import BoxActions, Planner, make_planner

STEPS = 50  # of an episode of the treatment
MOST_HELD = 4  # steps for which a random treatment stays the same


@dataclass(frozen=True)
class Task:
    """A task with risk.

    Args:
        env_id: its id.
        make_env: the environment itself, which steps batches.
        transitions: random ones to learn a model from.
        law: log-density (N,) of noisy next states under the true law; None where there is none.
        budget: of a model's fit.
        planning: settings of iCEM, for both objectives.
        steps: of an episode.
        episodes: played with a planner, for each objective.
        tested: episodes played with a policy.
        real_steps: of MBPO.
        rounds: times that episodes planned in the model join its data, and it is fitted again.
        test_rows: new transitions that models are scored on.
        agent: options of MBPO.
        digits: of returns in the table.
    """

    env_id: str
    make_env: Callable[[], Any]
    transitions: Callable[[Any, int, np.random.Generator], Transitions]
    law: Callable[[Any, Transitions, float], NDArray[np.float64]] | None
    budget: Budget
    planning: Mapping[str, Any]
    steps: int
    episodes: int
    tested: int
    real_steps: int
    rounds: int = 0
    test_rows: int = 500
    agent: Mapping[str, Any] = field(default_factory=dict)
    digits: int = 1

    def planner(self, objective: str, alpha: float) -> Planner:
        """iCEM for an objective; the first plans reach both ends of the box."""
        space = self.make_env().action_space
        actions = BoxActions(space.low.tolist(), space.high.tolist(), std=1.0)
        return make_planner("icem", actions, objective=objective, alpha=alpha, **self.planning)

    def as_data(self, way: str) -> dict[str, Any]:
        """Settings that determine the results of "mpc" or "mbpo"."""
        others = {
            "mpc": ("tested", "real_steps", "agent"),
            "mbpo": ("budget", "planning", "episodes", "rounds", "test_rows"),
        }
        aside = ("make_env", "transitions", "law", "digits", *others[way])
        kept = {name: value for name, value in vars(self).items() if name not in aside}
        return plain({k: asdict(v) if k == "budget" else v for k, v in kept.items()})


def treated(env: HIVTreatmentEnv, count: int, rng: np.random.Generator) -> Transitions:
    """Episodes of random treatments, each of which is kept for 1 to 4 steps."""
    rows = []
    states = env.start_states(-(-count // STEPS), rng)
    actions = np.zeros((len(states), 2))
    left = np.zeros(len(states), dtype=np.int64)
    for _ in range(min(STEPS, count)):
        anew = left == 0
        left[anew] = rng.integers(1, MOST_HELD + 1, anew.sum())
        actions = np.where(anew[:, None], rng.uniform(-1.0, 1.0, actions.shape), actions)
        left -= 1
        after = env.step_batch(states, actions, rng).next_states
        rows.append((states, actions, after))
        states = after
    s, a, after = (np.concatenate(part)[:count] for part in zip(*rows, strict=True))
    return as_transitions(s, a, after)


def exchange_law(env: CurrencyExchangeEnv, data: Transitions, noise: float) -> NDArray[np.float64]:
    """Log-density of noisy rates under the true law."""
    law = env.transition_distribution(data.states.numpy(), data.actions.numpy())
    return law.noisy_log_prob(data.next_states.numpy(), noise)


_AGENT: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learning_starts": 500,
    "batch_size": 128,
    "gradient_steps": 2,
    "model_train_freq": 500,
    "fit_kwargs": {"steps": 400, "check_every": 50, "patience": 3},
    "rollout_batch_size": 2000,
    "real_share": 0.2,
    "policy_kwargs": {"net_arch": [64, 64]},
}

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "currency": Task(
            "vaerl/CurrencyExchange-v0",
            CurrencyExchangeEnv,
            observe,
            exchange_law,
            Budget(2000, 800, noise=0.05),
            {"horizon": 20, "population": 16, "iterations": 2, "particles": 20},
            steps=20,
            episodes=20,
            tested=500,
            real_steps=6000,
            agent={**_AGENT, "gamma": 1.0},
        ),
        "hiv": Task(
            "vaerl/HIVTreatment-v0",
            HIVTreatmentEnv,
            treated,
            None,
            Budget(2000, 800, noise=0.05),
            {"horizon": 8, "population": 64, "iterations": 3, "particles": 10},
            steps=STEPS,
            episodes=5,
            tested=50,
            real_steps=6000,
            rounds=4,
            agent=_AGENT,
        ),
    }
)


def debug_task(task: Task) -> Task:
    """The same with next to no budget, to run whole in seconds."""
    return replace(
        task,
        budget=replace(task.budget, transitions=100, steps=10, batch_size=32),
        planning={"horizon": 2, "population": 6, "iterations": 1, "particles": 2, "elites": 2},
        steps=2,
        test_rows=50,
        episodes=2,
        tested=2,
        real_steps=40,
        rounds=min(task.rounds, 1),
        agent={
            **task.agent,
            "learning_starts": 30,
            "gradient_steps": 1,
            "fit_kwargs": {"steps": 5},
            "rollout_batch_size": 50,
        },
    )
