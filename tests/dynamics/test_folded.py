"""Folded draws are the density's own: same random numbers, same numbers drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaerl.dynamics import DynamicsModel, Transitions, fit
from vaerl.dynamics.fitting import FitOptions


def fitted(**options: Any) -> DynamicsModel:
    """Three members with weights and normalisers that are far from those at the start."""
    torch.manual_seed(0)
    model = DynamicsModel(2, 1, density="cvae", members=3, reward=None, **options)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    states = torch.randn(200, 2) * torch.tensor([3.0, 0.1]) + 5.0
    model.standardise(Transitions(states, torch.rand(200, 1), states + torch.randn(200, 2)))
    return model


@pytest.mark.parametrize(
    "density_kwargs",
    [
        {},
        {"blocks": 3, "latent_dims": (3, 2)},
        {"blocks": 0, "prior_weights": "equal"},
        {"context_hidden": (), "log_sigma_bounds": (-9.0, -1.0)},
    ],
)
def test_folded_draws_are_those_of_the_density(density_kwargs: dict[str, Any]) -> None:
    """Raw inputs in, events in their own units out, through any number of layers and blocks."""
    model = fitted(density_kwargs=density_kwargs)
    assert model.folds
    raw = torch.randn(3, 400, 3)
    for first in (0, 2):
        density: Any = model.acting(first)["density"]
        with torch.no_grad():
            value = density(model.input_normaliser(raw))
            plain = value.sample((), torch.Generator().manual_seed(1))
            fold = model.folded(first)
            assert fold is not None
            folded = fold(raw, torch.Generator().manual_seed(1))
        expected = model.target_normaliser.inverse(plain)
        size = expected.std(dim=(0, 1))
        assert ((folded - expected).abs() / size).max() < 1e-3, size


def test_a_fit_is_seen_by_the_next_roll_out() -> None:
    """Folded weights are made anew when the members or the normalisers have changed."""
    model = fitted()
    rows = torch.full((600, 2), 5.0), torch.zeros(600, 1)
    before = model.step(*rows, torch.Generator().manual_seed(0)).next_states
    states = torch.randn(600, 2)
    data = Transitions(states, torch.rand(600, 1), states + 7.0)
    fit(model, data, FitOptions(steps=40, check_every=40))
    after = model.step(torch.zeros(600, 2), rows[1], torch.Generator().manual_seed(0)).next_states
    assert (after.mean(0) - 7.0).abs().max() < 1.0 < (before.mean(0) - 12.0).abs().max()


def test_what_cannot_be_folded_goes_the_usual_way() -> None:
    """Another prior or density, a code an episode and a learned end."""
    assert not fitted(density_kwargs={"prior": "gaussian"}).folds
    assert not fitted(latent="episode").folds
    assert not fitted(termination="learned").folds
    assert not DynamicsModel(2, 1, density="gaussian").folds
