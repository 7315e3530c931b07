"""Diagnostics against closed forms: what a perfect model gets, and what a wrong one must get."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from tests.dynamics.test_rollout import DRIFT, SIGMA, drifting
from vaerl.dynamics import (
    DynamicsModel,
    Transitions,
    calibration_error,
    coverage,
    energy_distance,
    log_density,
    mode_scores,
    pit,
    predict,
    roll_out,
)


def draws(count: int, rows: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    """N(0, scale²), ``(count, rows, 1)``."""
    return scale * torch.randn(count, rows, 1, generator=torch.Generator().manual_seed(seed))


def test_pit_of_the_true_law_is_uniform() -> None:
    """Also where the law has an atom: half of it at 0."""
    for atom in (False, True):
        model, truth = draws(50, 20_000, 0), draws(1, 20_000, 1)[0]
        if atom:
            model, truth = model.clamp_min(0.0), truth.clamp_min(0.0)
        values = pit(model, truth, torch.Generator().manual_seed(2))
        assert values.min() > 0.0 and values.max() < 1.0
        shares = torch.histc(values, 10, 0.0, 1.0) / len(values)
        assert torch.allclose(shares, torch.full((10,), 0.1), atol=0.01)
        assert calibration_error(values) < 0.01


def test_a_model_that_is_too_sure_covers_too_little() -> None:
    """Draws of half the truth's width: its interval of level p holds 2Φ(Φ⁻¹((1+p)/2)/2) − 1."""
    values = pit(draws(1000, 5000, 0, 0.5), draws(1, 5000, 1)[0])
    levels = torch.tensor([0.5, 0.9])
    normal = Normal(0.0, 1.0)
    expected = 2.0 * normal.cdf(0.5 * normal.icdf(0.5 + 0.5 * levels)) - 1.0
    assert torch.allclose(coverage(values, levels), expected, atol=0.02)
    assert calibration_error(values) > 0.08
    # A model that is off: everything on one side, the farthest there is from uniform.
    assert calibration_error(pit(draws(100, 50, 0) - 9.0, draws(1, 50, 1)[0])) > 0.48


def test_energy_distance_has_its_closed_form() -> None:
    """0 for one law; N(0, 1) and N(d, 1): 2 E|N(d, 2)| − 4/√π; two points: twice their distance."""
    x, y = draws(400, 200, 0), draws(300, 200, 1)
    assert energy_distance(x, y).mean().abs() < 0.01
    d = 1.5
    far = d * math.erf(d / 2.0) + 2.0 / math.sqrt(math.pi) * math.exp(-d * d / 4.0)
    expected = 2.0 * far - 4.0 / math.sqrt(math.pi)
    assert energy_distance(x, y + d).mean().item() == pytest.approx(expected, rel=0.05)
    points = torch.zeros(3, 1, 2), torch.tensor([3.0, 4.0]).expand(2, 1, 2)
    assert energy_distance(*points).item() == pytest.approx(10.0)
    with pytest.raises(ValueError, match="y: got 1, expected at least 2 draws"):
        energy_distance(x, y[:1])
    for other in (y.repeat(1, 1, 2), y[:, :1], y[0]):
        with pytest.raises(ValueError, match=r"^x and y: got shapes .* expected \(n, B, S\)"):
            energy_distance(x, other)
        with pytest.raises(ValueError, match=r"^draws: got shape .* for outcomes \(4, 2\), exp"):
            pit(other, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="one draw or more"):
        pit(x[:0], x[0])


def test_energy_distance_is_the_same_far_from_the_origin() -> None:
    """Where float32 still holds four decimals of the coordinates."""
    x, y = draws(300, 5, 0), draws(300, 5, 1)
    far = energy_distance(x + 1e3, y + 1e3)
    torch.testing.assert_close(far, energy_distance(x, y), rtol=0.0, atol=2e-4)


def test_mode_scores_tell_collapse_from_averaging() -> None:
    """Two modes ±1: one alone covers half, the Gaussian between them is mostly spurious."""
    std, centres = 0.05, torch.tensor([[[1.0], [-1.0]]])
    weights = torch.full((1, 2), 0.5)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        each = [Normal(c, std).log_prob(x[..., 0]) for c in (-1.0, 1.0)]
        return torch.logsumexp(torch.stack(each), 0) - math.log(2.0)

    side = torch.sign(draws(8000, 1, 3))
    law = side + draws(8000, 1, 4, std)
    moved = {"law": law[:4000], "collapsed": law.abs()[:4000], "mean": draws(4000, 1, 5, 1.0012)}
    found = {
        name: mode_scores(d, law[4000:], log_prob, centres, weights) for name, d in moved.items()
    }
    assert found["law"].coverage.item() == pytest.approx(0.99, abs=0.02)
    assert found["law"].spurious.item() == pytest.approx(0.01, abs=0.006)
    assert found["collapsed"].coverage.item() == pytest.approx(0.5, abs=0.01)
    assert found["collapsed"].spurious.item() == pytest.approx(0.01, abs=0.006)
    half = 2.576 * std
    normal = Normal(0.0, 1.0012)
    inside = 2.0 * (normal.cdf(torch.tensor(1 + half)) - normal.cdf(torch.tensor(1 - half)))
    assert found["mean"].spurious.item() == pytest.approx(1.0 - inside.item(), abs=0.02)
    # With a radius below the modes' own width, what is outside it belongs to none.
    near = mode_scores(law[:4000], law[4000:], log_prob, centres, weights, radius=std)
    assert near.coverage.item() == pytest.approx(0.683, abs=0.03)


def test_log_density_is_that_of_the_ensemble() -> None:
    """Three members N(s + d, σ²): the log of their mean density, in the units of the data."""
    model = drifting()
    model.target_normaliser.scale.fill_(2.0)
    states, after = torch.zeros(5, 1), torch.linspace(-2.0, 9.0, 5).unsqueeze(1)
    each = Normal(2.0 * DRIFT, 2.0 * SIGMA).log_prob(after)
    expected = torch.logsumexp(each, 1) - math.log(3.0)
    found = log_density(model, Transitions(states, states, after))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [2, 3, 6])
def test_predictions_go_through_all_members(rows: int) -> None:
    """Draws of s' have the moments of the mean law, for any number of rows beside three members; a
    path keeps its member."""
    model, generator = drifting(), torch.Generator().manual_seed(0)
    found = predict(model, torch.ones(rows, 1), torch.zeros(rows, 1), 6000, generator)
    assert found.shape == (6000, rows, 1)
    mean = torch.full((rows, 1), 1.0 + DRIFT.mean().item())
    assert torch.allclose(found.mean(0), mean, atol=0.1)
    expected = (DRIFT.var(correction=0) + SIGMA**2).sqrt().item()
    assert found.std(0).flatten().tolist() == pytest.approx([expected] * rows, rel=0.03)
    paths = roll_out(model, torch.zeros(1), torch.zeros(20, 1), 90, generator)
    assert paths.shape == (21, 90, 1)
    ends = (paths[-1] - 20.0 * DRIFT).abs().argmin(1)
    assert ends.bincount().tolist() == [30, 30, 30]


def test_known_coordinates_and_features() -> None:
    """Only the predicted coordinate is learned, the clock completed; features are seen."""
    seen = []

    def features(states: torch.Tensor) -> torch.Tensor:
        seen.append(states.shape[-1])
        return states[..., 1:].cos()

    model = DynamicsModel(
        2,
        1,
        density="gaussian",
        members=2,
        reward=None,
        features=features,
        predicted=(1,),
        complete=lambda s, a, values: torch.stack([s[..., 0] + 1.0, values[..., 0]], -1),
    )
    assert (model.context_dim, model.event_dim, model.change_dim) == (2, 1, 1)
    states = torch.tensor([[3.0, 0.5], [7.0, 0.5]])
    model.standardise(Transitions(states, torch.ones(2, 1), states + 1.0))
    step = model.step(states, torch.ones(2, 1))
    assert step.next_states[:, 0].tolist() == [4.0, 8.0] and set(seen) == {2}
    inputs = model.inputs(states, torch.ones(2, 1))
    assert torch.allclose(inputs[0], inputs[1])  # the clock is not seen
    assert model.member(0).context_dim == 2
    with pytest.raises(ValueError, match="complete: got None, expected predicted and complete"):
        DynamicsModel(2, 1, predicted=(1,))
    with pytest.raises(ValueError, match="predicted: got \\[2\\], expected different coordinates"):
        DynamicsModel(2, 1, predicted=(2,), complete=lambda s, a, v: v)
