"""What is no tensor, generator or seed, and functions that give something else, are one line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from vaerl.dynamics import (
    DynamicsModel,
    Transitions,
    calibration_error,
    coverage,
    deviation,
    energy_distance,
    log_density,
    pit,
    roll_out,
    spread,
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pit([[1.0]], torch.zeros(1, 1)), "draws: got list, expected a torch.Tensor"),
        (lambda: coverage([0.1], [0.5]), "pit_values: got list, expected a torch.Tensor"),
        (lambda: calibration_error([0.1]), "pit_values: got list, expected a torch.Tensor"),
        (lambda: energy_distance(torch.zeros(2, 1, 1), 3), "y: got int, expected a torch.Tensor"),
        (
            lambda: roll_out(None, torch.zeros(2), [0.0]),
            "actions: got list, expected a torch.Tensor",
        ),
        (lambda: roll_out(None, torch.zeros(2), torch.tensor(1)), "actions: got shape ()"),
        (lambda: pit(torch.zeros(2, 1, 1), torch.zeros(1, 1), 3), "generator: got 3, expected"),
    ],
)
def test_what_is_no_tensor(call: Any, message: str) -> None:
    """Lists, numbers and single actions."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_no_model_takes() -> None:
    """Seeds and generators of the wrong kind, discrete actions that are no row, features in
    float64, and completions that give no next states."""
    states, actions = torch.zeros(4, 2), torch.zeros(4, 1)
    model = DynamicsModel(2, 1, density="gaussian", reward=None, members=2)
    data = Transitions(states, actions, states)
    with pytest.raises(ValueError, match=r"^seed: got -1, expected a whole number from 0"):
        log_density(model, data, seed=-1)
    for measure in (deviation, spread):
        with pytest.raises(TypeError, match=r"^generator: got 3, expected a torch.Generator"):
            measure(model, states, actions, generator=3)  # type: ignore[operator]
    discrete = DynamicsModel(2, 3, density="gaussian", discrete_actions=True)
    with pytest.raises(ValueError, match=r"^actions: got shape \(\), expected \(B,\)"):
        discrete.step(states, torch.tensor(1))
    with pytest.raises(ValueError, match=r"^features: got torch.float64 .*expected float32"):
        DynamicsModel(2, 1, density="gaussian", features=lambda s: s.double())
    half = DynamicsModel(2, 1, density="gaussian", predicted=[0], complete=lambda s, a, some: some)
    with pytest.raises(ValueError, match=r"^complete: got \(4, 1\) for states \(4, 2\), expected"):
        half.step(states, actions)
