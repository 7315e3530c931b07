"""What does not fit is refused in one line that names argument, value and what is legal."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from vaerl.dynamics import (
    DynamicsModel,
    FitOptions,
    Transitions,
    calibration_error,
    coverage,
    deviation,
    fit,
    horizon_errors,
    log_density,
    pit,
    predict,
    replay_transitions,
    roll_out,
    score,
    spread,
)
from vaerl.planning import BoxActions, make_planner

ROWS = [[0.0, 1.0], [1.0, 2.0]]
NAN = [[0.0, float("nan")], [1.0, 2.0]]
ACTIONS = [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAN, ACTIONS, ROWS), "states: 1 of 2 rows hold NaN or infinity, expected finite numbers"),
        ((ROWS, ACTIONS, NAN), "next_states: 1 of 2 rows hold NaN or infinity"),
        (([], [], []), "states: got shape (0,), expected a table (N, size)"),
        ((torch.zeros(0, 2), ACTIONS, ROWS), "states: got the empty shape (0, 2), expected at"),
        (([[0.0], [1.0, 2.0]], ACTIONS, ROWS), "states: got rows of unequal length, expected a"),
        ((ROWS, ACTIONS, [[1.0], [2.0]]), "next_states: got shape (2, 1), expected that of states"),
        ((ROWS, [[0.0]], ROWS), "actions: got 1 rows, expected 2 as in states"),
        ((ROWS, ACTIONS, ROWS, [0.0]), "rewards: got 1 rows, expected 2 as in states"),
        ((ROWS, ACTIONS, ROWS, [0.0, float("inf")]), "rewards: 1 of 2 rows hold NaN or infinity"),
        ((ROWS, ACTIONS, ROWS, None, [0.0, 0.5]), "terminations: got 0.5, expected 0 or 1"),
        ((ROWS, [0, -1], ROWS), "actions: got -1, expected whole numbers from 0"),
    ],
)
def test_transitions(arguments: tuple, message: str) -> None:
    """Empty, ragged, non-finite and mismatched data."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Transitions(*arguments)
    assert "\n" not in str(caught.value)


def test_transitions_of_words() -> None:
    """Words are no numbers."""
    with pytest.raises(TypeError, match=r"states: got .*, expected a table"):
        Transitions([["a"]], ACTIONS, ROWS)  # type: ignore[arg-type]


def test_complex_transitions_keep_their_imaginary_part_out() -> None:
    """Tensors as arrays are refused."""
    rows = torch.tensor(ROWS)
    for states in (rows * 1j, (rows * 1j).numpy()):
        with pytest.raises(
            TypeError, match=r"^states: got .*complex64, expected a table \(N, size"
        ):
            Transitions(states, ACTIONS, ROWS)  # type: ignore[arg-type]


def test_what_is_no_data_and_no_options() -> None:
    """A tuple of tensors, a dict of options."""
    model = DynamicsModel(2, 1, density="gaussian", members=2, reward=None)
    rows: Any = (torch.tensor(ROWS), torch.tensor(ACTIONS), torch.tensor(ROWS))
    for call in (fit, score, log_density, horizon_errors):
        with pytest.raises(TypeError, match=r"^data: got tuple, expected Transitions"):
            call(model, rows)
    with pytest.raises(TypeError, match=r"^buffer: got tuple, expected SB3's ReplayBuffer"):
        replay_transitions(rows)
    options: Any = {"steps": 3}
    with pytest.raises(TypeError, match=r"^options: got dict, expected FitOptions"):
        fit(model, Transitions(*rows), options)
    numbered = Transitions(*rows, rewards=[0.0, 0.0], episodes=[0, 0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^model: got one without rewards, expected a learned or"):
        horizon_errors(model, numbered, 2)


def test_precisions() -> None:
    """Only those of the native library; another one holds from the next step on."""
    model = DynamicsModel(2, 1, density="cvae", members=2)
    with pytest.raises(ValueError, match=r"^matmul_precision: got 'bf17', expected one of float32"):
        model.matmul_precision = "bf17"
    for precision in ("float32", "bf16"):
        model.matmul_precision = precision
        assert model.folded().matmul_precision == precision  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": "cvea"}, "did you mean 'cvae'?"),
        ({"members": 0}, "members: got 0, expected a whole number of at least 1"),
        ({"members": 2, "elites": 3}, "elites: got 3, expected at most the 2 members"),
        ({"propagation": "ts"}, "propagation: got 'ts', expected one of ts1, tsinf, expectation"),
        (
            {"reward": "known"},
            "reward: got 'known', expected 'learned', 'regressed', None or a function",
        ),
        (
            {"reward": "regressed", "latent": "episode"},
            "reward: got 'regressed' with latent='episode', expected 'learned', a function or None",
        ),
        ({"density_kwargs": "x"}, "density_kwargs: got 'x', expected a dict of options"),
        ({"features": "sine"}, "features: got 'sine', expected a function of the states or None"),
        ({"features": lambda s: s.numpy()}, "features: got ndarray for states (1, 2), expected a"),
        ({"features": lambda s: s[0]}, "features: got (2,) for states (1, 2), expected a tensor"),
        ({"predicted": 0, "complete": max}, "predicted: got 0, expected a list of coordinates"),
        ({"predicted": [0], "complete": "x"}, "complete: got 'x', expected a function"),
        ({"discrete_actions": "no"}, "discrete_actions: got 'no', expected True or False"),
        ({"termination": 1}, "termination: got 1, expected 'learned', None or a function"),
        ({"density_kwargs": {"hiden": 3}}, "hiden: unknown option of density 'cvae', did you mean"),
        ({"latent_dim": 0}, "latent_dim: got 0, expected a whole number of at least 1"),
        ({"latent_dim": None}, "latent_dim: got None, expected a whole number of at least 1"),
        ({"predicted": [0.0], "complete": max}, "predicted: got [0.0], expected different coordi"),
        ({"predicted": [False], "complete": max}, "predicted: got [False], expected different"),
        ({"predicted": [[0]], "complete": max}, "predicted: got [[0]], expected different coordi"),
    ],
)
def test_models(options: dict[str, Any], message: str) -> None:
    """Illegal options."""
    with pytest.raises(ValueError, match=re.escape(message)):
        DynamicsModel(2, 1, **options)


def test_data_that_does_not_fit_the_model() -> None:
    """Sizes, kinds of actions, missing rewards and ends; nothing in the model has changed."""
    model = DynamicsModel(2, 1, density="gaussian", members=2, termination="learned")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    good = {"rewards": [0.0, 1.0], "terminations": [0, 1]}
    bad: list[tuple[tuple, dict, str]] = [
        (([[0.0], [1.0]], ACTIONS, [[0.0], [1.0]]), good, "states: got size 1, expected 2"),
        ((ROWS, ROWS, ROWS), good, "actions: got size 2, expected 1"),
        ((ROWS, ACTIONS, ROWS), {"terminations": [0, 1]}, "rewards: got None, expected (N,)"),
        ((ROWS, ACTIONS, ROWS), {"rewards": [0.0, 1.0]}, "terminations: got None, expected (N,)"),
    ]
    for arguments, others, message in bad:
        data = Transitions(*arguments, **others)
        for call in (fit, score):
            with pytest.raises(ValueError, match=re.escape(message)):
                call(model, data)
    with pytest.raises(TypeError, match=r"actions: got torch.int64, expected floats"):
        fit(model, Transitions(ROWS, [0, 1], ROWS, **good))  # type: ignore[arg-type]
    one = Transitions([[0.0, 1.0]], [[0.0]], [[0.0, 1.0]], [0.0], [0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data: got 1 transition, expected at least 2"):
        fit(model, one)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_steps_of_wrong_sizes() -> None:
    """Rows that do not match the model, or a discrete action that it does not have."""
    model = DynamicsModel(2, 3, density="gaussian", members=2, discrete_actions=True)
    with pytest.raises(ValueError, match=r"states: got shape \(5, 1\), expected \(\*batch, 2\)"):
        model.step(torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="actions: got 4 rows, expected 5"):
        model.step(torch.zeros(5, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="actions: got 3, expected 0 to 2"):
        model.step(torch.zeros(5, 2), torch.full((5,), 3))
    with pytest.raises(ValueError, match="actions: got -1, expected 0 to 2"):
        model.step(torch.zeros(5, 2), torch.full((5,), -1))
    with pytest.raises(ValueError, match="states: 5 of 5 rows hold NaN or infinity"):
        model.step(torch.full((5, 2), torch.nan), torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_whole_actions_of_every_kind(dtype: torch.dtype) -> None:
    """Those of fewer bits, or truth values, do what the same ones of 64 bits do."""
    model = DynamicsModel(2, 2, density="gaussian", members=2, discrete_actions=True)
    states, actions = torch.zeros(4, 2), torch.tensor([0, 1, 1, 0])
    found, wanted = (
        model.step(states, a, torch.Generator().manual_seed(0)).next_states
        for a in (actions.to(dtype), actions)
    )
    assert torch.equal(found, wanted)
    many = DynamicsModel(2, 300, density="gaussian", members=2, discrete_actions=True)
    assert many.step(states, actions.to(dtype)).next_states.shape == (4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: m.member(None), "index: got None, expected a whole number of at least 0"),
        (lambda m, d: m.member(1.5), "index: got 1.5, expected a whole number of at least 0"),
        (lambda m, d: m.member(-1), "index: got -1, expected a whole number of at least 0"),
        (lambda m, d: m.member_density(7), "index: got 7, expected at most 1"),
        (
            lambda m, d: m.step(d.states, d.actions, generator=0),
            "generator: got 0, expected a torch.Generator or None",
        ),
        (
            lambda m, d: fit(m, d, generator=0),  # type: ignore[arg-type]
            "generator: got 0, expected a torch.Generator or None",
        ),
        (lambda m, d: score(m, d, seed=-1), "seed: got -1, expected a whole number from 0 to"),
        (lambda m, d: score(m, d, seed="x"), "seed: got 'x', expected a whole number from 0 to"),  # type: ignore[arg-type]
        (
            lambda m, d: spread(m, d.states[0], d.actions[0]),
            "states: got shape (2,), expected (B, S)",
        ),
        (
            lambda m, d: deviation(m, d.states[0], d.actions[0]),
            "states: got shape (2,), expected (B, S)",
        ),
    ],
)
def test_members_generators_and_rows(call: Any, message: str) -> None:
    """One line each."""
    model = DynamicsModel(2, 1, density="gaussian", members=2, reward=None)
    data: Any = Transitions(ROWS, ACTIONS, ROWS)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}") as caught:
        call(model, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("states", "actions", "message"),
    [
        (torch.zeros(3, 2), torch.full((3, 1), torch.nan), "actions: 3 of 3 rows hold NaN or inf"),
        (torch.zeros(0, 2), torch.zeros(0, 1), "states: got the empty shape (0, 2), expected at"),
        (
            torch.zeros(1, 2),
            torch.zeros(1),
            "actions: got shape (1,), expected (B, 1)",
        ),
        (torch.zeros(3, 2), np.zeros((3, 1)), "actions: got ndarray, expected a floating-point"),
        (
            torch.zeros(3, 2).double(),
            torch.zeros(3, 1),
            "states: got torch.float64, expected torch",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 1).double(),
            "actions: got torch.float64, expected torc",
        ),
        (torch.zeros(3, 2), torch.zeros(2, 1), "actions: got 2 rows, expected 3"),
    ],
)
def test_rows_that_no_step_takes(states: Any, actions: Any, message: str) -> None:
    """Refused in one line by a step, and by draws of it."""
    model = DynamicsModel(2, 1, density="gaussian", members=2)
    for call in (model.step, lambda s, a: predict(model, s, a, 3)):
        with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}") as caught:
            call(states, actions)
        assert "\n" not in str(caught.value)


def test_rows_that_no_spread_takes() -> None:
    """Those of another kind, number or precision; and paths under NaN."""
    model = DynamicsModel(2, 1, density="gaussian", members=2)
    three, one = torch.zeros(3, 2), torch.zeros(3, 1)
    for call in (spread, deviation):
        with pytest.raises(
            ValueError, match=r"^actions: got shape \(2, 1\), expected the batch of"
        ):
            call(model, three, one[:2])
        with pytest.raises(TypeError, match=r"^states: got ndarray, expected a torch.Tensor"):
            call(model, three.numpy(), one)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^states: got torch.float64, expected torch.float32"):
            call(model, three.double(), one)
    with pytest.raises(ValueError, match=r"^actions: 1 of 3 rows hold NaN or infinity"):
        roll_out(model, three[0], torch.tensor([[0.0], [torch.nan], [0.0]]))
    with pytest.raises(ValueError, match=r"^state: got shape \(3, 2\), expected \(S,\)"):
        roll_out(model, three, one)
    with pytest.raises(ValueError, match=r"^state: 1 of 1 rows hold NaN or infinity"):
        roll_out(model, torch.full((2,), torch.nan), one)


def test_calibration_of_what_is_no_probability() -> None:
    """NaN among draws and PIT values, levels above 1, no bins."""
    u, draws = torch.rand(10), torch.zeros(3, 4, 1)
    for call in (calibration_error, lambda v: coverage(v, [0.5])):
        for wrong, found in ((u * torch.nan, "nan"), (u + 2.0, "[23]"), (u[:0], "none")):
            with pytest.raises(
                ValueError, match=rf"^pit_values: got {found}.*, expected numbers in"
            ):
                call(wrong)
    with pytest.raises(ValueError, match=r"^levels: got 1.5, expected numbers in \[0, 1\]"):
        coverage(u, [0.5, 1.5])
    with pytest.raises(ValueError, match=r"^bins: got 0, expected a whole number of at least 1"):
        calibration_error(u, 0)
    with pytest.raises(ValueError, match=r"^draws: 12 of 12 rows hold NaN or infinity"):
        pit(draws * torch.nan, draws[0])
    with pytest.raises(ValueError, match=r"^outcomes: 4 of 4 rows hold NaN or infinity"):
        pit(draws, draws[0] * torch.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 1.5}, "holdout: got 1.5, expected a number in [0, 1)"),
        ({"holdout": 1.0}, "holdout: got 1.0, expected a number in [0, 1)"),
        ({"kl_warmup": 1.5}, "kl_warmup: got 1.5, expected a number in [0, 1]"),
        ({"score": "mse"}, "score: got 'mse', expected one of nll, energy"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0, expected a positive finite number"),
        ({"learning_rate": True}, "learning_rate: got True, expected a positive finite number"),
        ({"clip": float("inf")}, "clip: got inf, expected a positive finite number"),
        ({"blur": -1.0}, "blur: got -1.0, expected a finite number of at least 0"),
        ({"min_progress": NAN[0][1]}, "min_progress: got nan, expected a finite number of at le"),
        ({"min_progress": -5}, "min_progress: got -5, expected a finite number of at least 0"),
        ({"min_progress": "x"}, "min_progress: got 'x', expected a finite number of at least 0"),
        ({"bootstrap": "no"}, "bootstrap: got 'no', expected True or False"),
        ({"batch_size": 0}, "batch_size: got 0, expected a whole number of at least 1"),
    ],
)
def test_fit_options(options: dict[str, Any], message: str) -> None:
    """Illegal settings of a fit."""
    with pytest.raises(ValueError, match=re.escape(message)):
        FitOptions(**options)


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_states_and_actions_of_another_size(density: str) -> None:
    """Wherever they come in: steps, roll-outs, planners, spreads."""
    model = DynamicsModel(2, 1, density=density, members=2, reward=None)
    three, two = torch.zeros(1, 3), torch.zeros(1, 2)
    value = lambda s, a, after: after[:, 0]  # noqa: E731
    one = make_planner("cem", BoxActions([-1.0], [1.0]), horizon=2)
    pair = make_planner("cem", BoxActions([-1.0] * 2, [1.0] * 2), horizon=2)
    for wrong in (
        lambda: model.step(three, torch.zeros(1, 1)),
        lambda: model.begin(1).step(three, torch.zeros(1, 1)),
        lambda: one.plan(model, three, reward=value),
        lambda: roll_out(model, three[0], torch.zeros(4, 1), 5),
        lambda: spread(model, three, torch.zeros(1, 1)),
    ):
        with pytest.raises(ValueError, match=r"^states: got .*3.*expected .*2"):
            wrong()
    for wrong in (
        lambda: model.begin(1).step(two, two),
        lambda: pair.plan(model, two, reward=value),
        lambda: roll_out(model, two[0], torch.zeros(4, 2), 5),
        lambda: spread(model, two, two),
    ):
        with pytest.raises(ValueError, match=r"^actions: got size 2, expected 1"):
            wrong()


def test_a_roll_out_keeps_its_number_of_rows() -> None:
    model = DynamicsModel(2, 1, density="gaussian", members=2, reward=None)
    with pytest.raises(ValueError, match=r"^states: got 3 rows, expected the 4 of `begin`$"):
        model.begin(4).step(torch.zeros(3, 2), torch.zeros(3, 1))


def test_functions_of_a_planner_give_one_number_a_row() -> None:
    """A reward of shape (B, 1) is refused, not broadcast."""
    model = DynamicsModel(2, 1, density="gaussian", members=2, reward=None)
    planner = make_planner("cem", BoxActions([-1.0], [1.0]), horizon=2)
    start = torch.zeros(1, 2)
    for wrong, name in (
        ({"reward": lambda s, a, after: after[:, :1]}, "reward"),
        (
            {
                "reward": lambda s, a, after: after[:, 0],
                "termination": lambda s, a, after: torch.zeros(3, dtype=torch.bool),
            },
            "termination",
        ),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: got shape \(.*\) for \d+ rows, expected"):
            planner.plan(model, start, **wrong)
    for kind, value in (
        ("float", lambda after: 0.0),
        ("ndarray", lambda after: after[:, 0].numpy()),
    ):
        given: Any = lambda s, a, after, value=value: value(after)  # noqa: E731
        known = DynamicsModel(2, 1, density="gaussian", members=2, reward=given)
        for call in (
            lambda given=given: planner.plan(model, start, reward=given),
            lambda known=known: known.step(start, torch.zeros(1, 1)),
        ):
            with pytest.raises(
                TypeError, match=f"^reward: got {kind}, expected a torch.Tensor of "
            ):
                call()
    for name in ("reward", "termination"):
        words: Any = {"reward": lambda s, a, after: after[:, 0], name: "learned"}
        with pytest.raises(
            ValueError, match=f"^{name}: got 'learned', expected a function or None"
        ):
            planner.plan(model, start, **words)
