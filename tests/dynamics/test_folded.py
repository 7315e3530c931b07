"""Folded draws are the density's own: same random numbers, same numbers drawn."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from tests.speed import in_plain_shell
from vaerl.densities.fold import NARROW, Affine
from vaerl.dynamics import DynamicsModel, Transitions, fit
from vaerl.dynamics.fitting import FitOptions


def fitted(**options: Any) -> DynamicsModel:
    """Three members with weights and normalisers that are far from those at the start."""
    torch.manual_seed(0)
    options = {"reward": None, **options}
    model = DynamicsModel(2, 1, density="cvae", members=3, **options)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    states = torch.randn(200, 2) * torch.tensor([3.0, 0.1]) + 5.0
    change = torch.randn(200, 2) * torch.tensor([4.0, 0.2]) + torch.tensor([-3.0, 1.0])
    model.standardise(Transitions(states, torch.rand(200, 1), states + change, change[:, 0]))
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


def test_a_pickle_that_has_been_rolled_out_draws_the_same() -> None:
    """As a process that plans elsewhere gets it."""
    model, raw = fitted(), torch.randn(3, 5, 3)
    draws = []
    for each in (model, pickle.loads(pickle.dumps(model))):
        folded: Any = each.folded()
        draws.append(folded(raw, torch.Generator().manual_seed(0)))
    assert torch.equal(*draws)


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


@pytest.mark.parametrize(
    ("termination", "reward"),
    [(None, None), ("learned", "regressed"), (lambda s, a, n: n[:, 0] > 5.0, "regressed")],
)
def test_a_roll_out_step_is_that_of_the_modules(
    termination: Any, reward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same generator, same step: states, ends and rewards that are learned, known or absent."""
    model = fitted(termination=termination, reward=reward)
    states, actions = torch.randn(120, 2) + 5.0, torch.rand(120, 1)

    def steps() -> list[Any]:
        generator = torch.Generator().manual_seed(3)
        particles = model.begin(120, generator)
        return [particles.step(states, actions, generator) for _ in range(3)]

    assert model.folded() is not None
    folded = steps()
    monkeypatch.setattr(DynamicsModel, "folded", lambda self, first=0: None)
    for one, other in zip(folded, steps(), strict=True):
        # float32 through six layers: relative rounding of 1e-7 a layer, grown by the weights
        torch.testing.assert_close(one.next_states, other.next_states, rtol=1e-4, atol=1e-4)
        if reward is None:
            assert one.rewards is other.rewards is None
        else:
            torch.testing.assert_close(one.rewards, other.rewards, rtol=1e-4, atol=1e-4)
            assert one.rewards.std() > 0.1
        if termination is None:
            assert one.dones is other.dones is None
        else:
            assert 0.0 < one.dones.float().mean() < 1.0
            assert (one.dones != other.dones).sum() <= 1  # one on the edge may fall either way


SPEED = """
import torch
from tests.speed import speedup
from vaerl.dynamics import DynamicsModel
folded, plain = (DynamicsModel(4, 1, members=5, termination="learned") for _ in range(2))
plain.folded = lambda first=0: None
rows = torch.zeros(200, 4), torch.zeros(200, 1)
generator = torch.Generator()
print(speedup(lambda: plain.step(*rows, generator), lambda: folded.step(*rows, generator), 1.3))
"""


def test_a_step_with_learned_ends_is_faster_folded() -> None:
    """The default of the agents with a learned model; it takes half of the time."""
    (ratio,) = in_plain_shell(SPEED)
    assert ratio > 1.3, ratio


def test_folded_heads_are_those_of_the_network() -> None:
    """Outputs from raw inputs and changes, of every order of the elites."""
    model = fitted(termination="learned", reward="regressed")
    raw, event = torch.randn(3, 400, 3), 4.0 * torch.randn(3, 400, 2)
    for first in (0, 2):
        folded = model.folded_heads(first)
        assert set(folded) == {"termination", "reward"}
        for name, fast in folded.items():
            network = model.acting(first)[name]
            seen = torch.cat((model.input_normaliser(raw), model.target_normaliser(event)), dim=-1)
            expected = network(seen).squeeze(-1)
            assert expected.std() > 0.1
            torch.testing.assert_close(fast(raw, event), expected, rtol=1e-5, atol=1e-5)
    assert fitted().folded_heads() == {}


@pytest.mark.parametrize("outputs", [1, NARROW - 1, NARROW])
def test_narrow_products_are_the_same_numbers(outputs: int) -> None:
    """Whichever way round they are computed, for a common start and one for each row."""
    layer = Affine(torch.randn(2, outputs, 5), torch.randn(2, 1, outputs))
    x, start = torch.randn(2, 7, 5), torch.randn(2, 7, outputs)
    torch.testing.assert_close(layer(x), x @ layer.weight + layer.bias)
    torch.testing.assert_close(layer.add(start, x), x @ layer.weight + start)


def test_a_density_without_a_fast_form_goes_through_the_modules() -> None:
    """Whole numbers have none, and a code for each episode is drawn by the modules."""
    assert (
        DynamicsModel(2, 1, density="cvae", density_kwargs={"whole": True}, reward=None).folded()
        is None
    )
    model = fitted(latent="episode")
    assert model.step(torch.zeros(6, 2), torch.zeros(6, 1)).next_states.shape == (6, 2)
