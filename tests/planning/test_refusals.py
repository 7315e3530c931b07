"""What planners refuse: wrong settings, functions, plans and warm starts, each in one line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from tests.planning.test_planners import Counter, Drift, Walk
from vaerl.envs.currency_exchange import CurrencyExchangeEnv
from vaerl.envs.fork import ForkEnv
from vaerl.planning import (
    BoxActions,
    DiscreteActions,
    Plan,
    SimulatorModel,
    make_planner,
    plan_returns,
)


class Widens:
    """Its next states are of another size."""

    def step(self, states: torch.Tensor, actions: Any, generator: Any = None) -> Any:
        return torch.zeros(len(states), 4), torch.zeros(len(states))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_planner("cme", DiscreteActions(2)), "planner: got 'cme', did you mean"),
        (
            lambda: make_planner("cem", DiscreteActions(2), horizn=3),
            "setting of planner cem: got 'horizn', did you mean 'horizon'?",
        ),
        (
            lambda: make_planner("mppi", DiscreteActions(2), temperature=0.0),
            "temperature: got 0.0, expected a number in (0, 1e+06]",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(2), population=4, elites=8),
            "elites: got 8, expected at most the population of 4",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(2), objective="max"),
            "objective: got 'max', expected one of mean, cvar",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(2), alpha=0.0),
            "alpha: got 0.0, expected a number in (0, 1]",
        ),
        (
            lambda: make_planner("mppi", "Pendulum-v1"),
            "actions: got 'Pendulum-v1', expected BoxActions or DiscreteActions",
        ),
        (
            lambda: make_planner("mppi", DiscreteActions(2), temperature=True),
            "temperature: got True, expected a number in (0, 1e+06]",
        ),
        (
            lambda: make_planner("icem", DiscreteActions(2), colour=True),
            "colour: got True, expected a number from 0 to 100",
        ),
        (lambda: BoxActions([0.0], [1.0], std=True), "std: got True, expected a number in (0, 10]"),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(),
                torch.zeros(1, 1),
                warm=3,  # type: ignore[arg-type]
            ),
            "warm: got int, expected a Plan or None",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(),
                torch.zeros(1, 1),
                generator=0,  # type: ignore[arg-type]
            ),
            "generator: got 0, expected a torch.Generator or None",
        ),
        (
            lambda: plan_returns(Counter(), torch.zeros(1, 1), [[[1]]]),  # type: ignore[arg-type]
            "plans: got list for 1 states, expected (B, N, H, A), or (B, N, H)",
        ),
        (
            lambda: plan_returns(Counter(), torch.zeros(1, 1), torch.zeros(1, 2, 3), particles=0),
            "particles: got 0, expected",
        ),
        (
            lambda: plan_returns(
                Counter(), torch.zeros(1, 1), torch.zeros(1, 2, 3), discount=float("nan")
            ),
            "discount: got nan, expected a number in [0, 1]",
        ),
        (
            lambda: plan_returns(Widens(), torch.zeros(1, 1), torch.zeros(1, 2, 3, 1)),
            "model.step: got next states of shape (2, 4), expected that of the states, (2, 1)",
        ),
        (
            lambda: plan_returns(Counter(), torch.zeros(1, 1), torch.zeros(2, 3)),
            "plans: got shape (2, 3) for 1 states, expected (B, N, H, A), or (B, N, H)",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(), torch.zeros(1, 1), termination="never"
            ),
            "termination: got 'never', expected a function or None",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(), torch.zeros(1, 1), reward=lambda s, a, n: 1.0
            ),
            "reward: got float, expected a torch.Tensor of shape (320,)",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(), torch.zeros(1, 1), termination=lambda s, a, n: np.zeros(len(s))
            ),
            "termination: got ndarray, expected a torch.Tensor of shape (320,)",
        ),
        (lambda: BoxActions([0.0], [float("inf")]), "expected finite bounds with low < high"),
        (lambda: BoxActions([0.0], [1.0, 2.0]), "low, high: got sizes 1 and 2"),
        (lambda: BoxActions("a", "b"), "low: got 'a', expected a list of numbers"),
        (lambda: BoxActions([0.0], None), "high: got None, expected a list of numbers"),
        (lambda: BoxActions([None], [1.0]), "low: got [None], expected a list of numbers"),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(None, torch.zeros(1, 1)),
            "model: got NoneType, expected one with a method step(states, actions, generator)",
        ),
        (
            lambda: plan_returns(object(), torch.zeros(1, 1), torch.zeros(1, 2, 3)),
            "model: got object, expected one with a method step(states, actions, generator)",
        ),
        (
            lambda: (
                SimulatorModel(ForkEnv()).begin(1).step(torch.zeros(1, 1), torch.zeros(1, 1), 0)
            ),
            "generator: got 0, expected a torch.Generator or None",
        ),
        (
            lambda: make_planner("cem", BoxActions([-1], [1])).plan(
                SimulatorModel(CurrencyExchangeEnv()), torch.tensor([[0.5, 100.0, 100.0]])
            ),
            "states: got [0.5, 100.0, 100.0], expected a whole step t, 0 to",
        ),
        (
            lambda: make_planner("random", BoxActions([-1], [1])).plan(Walk(), torch.zeros(1, 1)),
            "reward: got None, expected a function of (states, actions, next_states)",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(Counter(), torch.zeros(3)),
            "states: got shape (3,), expected (B, S) with at least one row",
        ),
        (
            lambda: make_planner("cem", DiscreteActions(3)).plan(
                Counter(), torch.full((1, 1), torch.nan)
            ),
            "states: got NaN or infinity, expected finite numbers",
        ),
        (
            lambda: make_planner("cem", BoxActions([-1], [1])).plan(
                Walk(), torch.zeros(1, 1), reward=lambda s, a, n: s[:, 0] * torch.nan
            ),
            "model: the best return is NaN, expected finite numbers",
        ),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    """One line that names argument, value and what is legal."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)


BOX, PLANE, CHOICES = BoxActions([0.0], [2.0]), BoxActions([-1, -1], [1, 1]), DiscreteActions(3)


@pytest.mark.parametrize("name", ["cem", "icem"])
@pytest.mark.parametrize(
    ("before", "rows", "after", "rows_after"),
    [
        ((CHOICES, 1), 1, (CHOICES, 1), 2),
        ((BOX, 1), 1, (BOX, 4), 1),
        ((BOX, 4), 2, (BOX, 1), 2),
        ((BOX, 1), 4, (BOX, 4), 1),
        ((CHOICES, 1), 2, (BOX, 1), 2),
        ((CHOICES, 1), 1, (DiscreteActions(4), 1), 1),
        ((BOX, 2), 1, (PLANE, 2), 1),
    ],
)
def test_a_warm_start_of_another_planner_is_refused(
    name: str, before: tuple, rows: int, after: tuple, rows_after: int
) -> None:
    """Other states, modes or actions: one line; so is another horizon."""

    def planned(actions: Any, modes: int, rows: int, horizon: int, warm: Plan | None) -> Plan:
        planner = make_planner(name, actions, modes=modes, horizon=horizon, particles=1)
        zero = lambda s, a, n: torch.zeros(len(s))  # noqa: E731
        return planner.plan(Drift(), torch.zeros(rows, 1), reward=zero, warm=warm)

    warm = planned(*before, rows, 4, None)
    planned(*before, rows, 4, warm)
    for settings in ((*after, rows_after, 4), (*before, rows, 3)):
        with pytest.raises(ValueError, match=r"^warm: got a plan of shapes .*, expected") as caught:
            planned(*settings, warm)
        assert "\n" not in str(caught.value)
