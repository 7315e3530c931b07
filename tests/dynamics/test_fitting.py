"""Fitting: two outcomes are seen, elites go by likelihood, patience ends it, NLL is honest."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit, predict, score
from vaerl.dynamics.batched import batch_members
from vaerl.dynamics.fitting import _Fit

SIGMA = 0.1
ORACLE = 0.5 * math.log(2.0 * math.pi * math.e) + math.log(SIGMA) + math.log(2.0)


def two_ways(count: int, seed: int) -> Transitions:
    """s' = s + a ± 1 with noise of 0.1, both signs alike."""
    generator = torch.Generator().manual_seed(seed)
    states = 2.0 * torch.rand(count, 1, generator=generator) - 1.0
    actions = 2.0 * torch.rand(count, 1, generator=generator) - 1.0
    sign = torch.randint(2, (count, 1), generator=generator) * 2.0 - 1.0
    noise = SIGMA * torch.randn(count, 1, generator=generator)
    return Transitions(states, actions, states + actions + sign + noise)


@cache
def fitted(density: str) -> DynamicsModel:
    """An ensemble of two after 250 updates of 64 transitions."""
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density=density, members=2, reward=None)
    options = FitOptions(steps=250, batch_size=64, learning_rate=5e-3)
    fit(model, two_ways(2000, 1), options, torch.Generator().manual_seed(2))
    return model


def test_a_gaussian_misses_two_outcomes_and_a_cvae_finds_them() -> None:
    """The CVAE comes near the oracle's NLL; no Gaussian can go below its own optimum."""
    test = two_ways(1000, 3)
    best_gaussian = 0.5 * math.log(2.0 * math.pi * math.e * (1.0 + SIGMA**2))
    gaussian, cvae = (score(fitted(name), test).min().item() for name in ("gaussian", "cvae"))
    assert gaussian > best_gaussian - 0.05
    assert cvae < ORACLE + 0.15
    assert cvae > ORACLE - 0.1


def test_warm_up_of_the_kl_keeps_rare_outcomes_apart() -> None:
    """s' = s + B + .02ξ, B = ±.9 in one of five steps: without warm-up one broad mode covers both.

    The right share within .1 of either is .1 each.
    """
    generator = torch.Generator().manual_seed(0)
    states = 2.0 * torch.rand(2000, 1, generator=generator) - 1.0
    chances = torch.tensor([0.1, 0.8, 0.1]).expand(2000, 3)
    push = 0.9 * (torch.multinomial(chances, 1, generator=generator) - 1.0)
    after = states + push + 0.02 * torch.randn(2000, 1, generator=generator)
    data = Transitions(states, torch.zeros_like(states), after)
    small = {"k": 4, "prior_components": 8, "blocks": 1, "hidden": 16, "context_hidden": (16,)}
    found = {}
    for share in (0.0, 0.2):
        torch.manual_seed(0)
        model = DynamicsModel(1, 1, density="cvae", density_kwargs=small, members=1, reward=None)
        options = FitOptions(steps=400, batch_size=64, learning_rate=1e-2, kl_warmup=share)
        fit(model, data, options, torch.Generator().manual_seed(1))
        draws = predict(model, torch.zeros(1, 1), torch.zeros(1, 1), 4000)[:, 0, 0]
        found[share] = ((draws.abs() - 0.9).abs() < 0.1).float().mean().item()
    assert found[0.0] < 0.05 < 0.12 < found[0.2] < 0.25, found


def test_blur_lets_sharp_modes_find_where_they_end() -> None:
    """s' = s + B + .005ξ, B = ±1 where |s| < .5 alone: in the middle all jump, outside nobody.

    Without blur the gradients of the sharp modes drown those of the modes' weights.
    """
    generator = torch.Generator().manual_seed(0)
    states = 3.0 * torch.rand(4000, 1, generator=generator) - 1.5
    sign = torch.randint(2, (4000, 1), generator=generator) * 2.0 - 1.0
    after = states + sign * (states.abs() < 0.5) + 0.005 * torch.randn(4000, 1, generator=generator)
    data = Transitions(states, torch.zeros_like(states), after)
    places = torch.tensor([[0.0], [-1.0], [1.0]])
    wrong = {}
    for blur in (0.0, 1.0):
        torch.manual_seed(0)
        small = {"hidden": (32, 32), "components": 4}
        model = DynamicsModel(1, 1, density="mixture", density_kwargs=small, members=1, reward=None)
        options = FitOptions(steps=600, batch_size=64, learning_rate=5e-3, blur=blur)
        fit(model, data, options, torch.Generator().manual_seed(1))
        draws = predict(model, places, torch.zeros(3, 1), 2000)[..., 0]
        jumps = ((draws - places.T).abs() > 0.5).float().mean(0)
        wrong[blur] = (jumps - torch.tensor([1.0, 0.0, 0.0])).abs().max().item()
    assert wrong[1.0] < 0.05 < 0.15 < wrong[0.0], wrong


def test_samples_keep_away_from_the_middle() -> None:
    """Of the CVAE's next states almost none lies between the outcomes; of the Gaussian's many."""
    rows = torch.zeros(2000, 1)
    between = {}
    for name in ("gaussian", "cvae"):
        step = fitted(name).step(rows, rows, torch.Generator().manual_seed(0))
        between[name] = (step.next_states.abs() < 0.5).float().mean().item()
    assert between["cvae"] < 0.08 < 0.25 < between["gaussian"]


def test_nll_is_in_the_units_of_the_data() -> None:
    """Scaling Δs by 10 adds log 10 to the NLL of the model that follows it."""
    torch.manual_seed(0)
    data = two_ways(200, 1)
    model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    model.standardise(data)
    before = score(model, data)
    stretched = Transitions(
        data.states, data.actions, data.states + 10.0 * (data.next_states - data.states)
    )
    model.standardise(stretched)
    assert torch.allclose(score(model, stretched), before + math.log(10.0), atol=1e-4)


def test_learned_termination_is_part_of_the_likelihood() -> None:
    """An untrained Bernoulli law costs about log 2; a certain right one nothing."""
    data = two_ways(100, 1)
    ends = torch.zeros(100)
    data = Transitions(data.states, data.actions, data.next_states, None, ends)
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None, termination="learned")
    model.standardise(data)
    plain = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    plain.load_state_dict(model.state_dict(), strict=False)
    extra = score(model, data) - score(plain, data)
    assert torch.allclose(extra, torch.full((2,), math.log(2.0)), atol=0.3)
    last = model.networks["termination"][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-30.0)
    assert torch.allclose(score(model, data), score(plain, data), atol=1e-5)
    assert not model.step(data.states, data.actions).dones.any()


@pytest.mark.parametrize("by", ["nll", "energy"])
def test_elites_are_the_members_that_see_both_outcomes(by: str) -> None:
    """A member with the right mean and no modes loses to one with modes, whatever its place."""
    torch.manual_seed(0)
    ensemble = DynamicsModel(1, 1, density="mixture", members=3, elites=1, reward=None)
    good, bad = fitted_mixture(), DynamicsModel(1, 1, density="mixture", members=1, reward=None)
    data = two_ways(1000, 1)
    bad.standardise(data)
    narrow_mean(bad)
    members = [bad.member_density(0), good.member_density(0), bad.member_density(0)]
    ensemble.networks["density"] = batch_members(members)
    report = fit(ensemble, data, FitOptions(steps=0, score=by))
    assert report.elites == (1,) == tuple(ensemble.elites.tolist())
    assert report.scores[1] < report.scores[0]


@cache
def fitted_mixture() -> DynamicsModel:
    """One mixture fitted to two outcomes."""
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="mixture", members=1, reward=None)
    fit(model, two_ways(1000, 1), FitOptions(steps=300, learning_rate=5e-3))
    return model


@torch.no_grad()
def narrow_mean(model: DynamicsModel) -> None:
    """Make a mixture a single Gaussian around 0, whose mean is right where a = 0."""
    head = model.networks["density"].head
    head.weight.zero_()
    head.bias.zero_()


def test_patience_ends_a_fit_and_the_best_parameters_stay() -> None:
    """Pure noise is overfitted soon: it stops early, and the score kept is the best ever seen."""
    torch.manual_seed(0)
    noise = Transitions(torch.randn(60, 2), torch.randn(60, 1), torch.randn(60, 2))
    model = DynamicsModel(2, 1, density="gaussian", members=2, reward=None)
    options = FitOptions(
        steps=3000, learning_rate=1e-2, check_every=20, patience=3, holdout=0.3, batch_size=32
    )
    report = fit(model, noise, options, torch.Generator().manual_seed(0))
    assert report.steps < 3000
    columns = list(zip(*report.history, strict=True))
    assert report.scores == tuple(min(column) for column in columns)
    assert report.history[-1] > report.scores
    # The same seed holds out the same rows: what was kept scores as was said.
    again = fit(model, noise, replace(options, steps=0), torch.Generator().manual_seed(0))
    assert again.history[0] == pytest.approx(report.scores, rel=1e-5)


def test_bootstrap_and_seed_decide_what_is_learned() -> None:
    """Members from one start differ only through their resamplings; a seed repeats a fit."""
    results = []
    for bootstrap, seed in ((True, 0), (True, 0), (True, 1)):
        torch.manual_seed(0)
        model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
        options = FitOptions(steps=10, bootstrap=bootstrap)
        fit(model, two_ways(100, 0), options, torch.Generator().manual_seed(seed))
        results.append(model.state_dict()["networks.density.mean_head.weight"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_discrete_actions_are_told_apart() -> None:
    """Action 0 goes down, 1 goes nowhere, 2 goes up; the model learns it from whole numbers."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(3, (600,), generator=generator)
    states = torch.randn(600, 1, generator=generator)
    after = states + (actions - 1.0).unsqueeze(1)
    torch.manual_seed(0)
    model = DynamicsModel(1, 3, density="gaussian", members=2, reward=None, discrete_actions=True)
    fit(model, Transitions(states, actions, after), FitOptions(steps=300, learning_rate=1e-2))
    step = model.step(torch.zeros(3, 1), torch.arange(3))
    assert torch.allclose(step.next_states.flatten(), torch.tensor([-1.0, 0.0, 1.0]), atol=0.15)


def test_long_gradients_are_shortened_member_by_member() -> None:
    """A member whose gradient is too long keeps its direction; the other is left alone."""
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    data = two_ways(50, 0)
    model.standardise(data)
    run = _Fit(model, data, FitOptions(clip=2.0), None)
    scale = torch.tensor([100.0, 1e-3])
    for parameter in model.networks.parameters():
        parameter.grad = scale.view(2, *(1,) * (parameter.ndim - 1)).expand_as(parameter).clone()
    run._clip()
    gradients = [p.grad.flatten(1) for p in model.networks.parameters() if p.grad is not None]
    norms = torch.cat(gradients, dim=1).norm(dim=1)
    assert norms[0].item() == pytest.approx(2.0, rel=1e-4)
    assert all(torch.all(g[1] == scale[1]) for g in gradients)


def test_a_holdout_of_ones_own_is_what_is_scored() -> None:
    """All the data is learned from, and members are judged by the other transitions."""
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="gaussian", members=2, reward=None)
    far = two_ways(40, 9)
    far = replace(far, next_states=far.next_states + 50.0)
    options = FitOptions(steps=1, score_k=8)
    report = fit(model, two_ways(60, 0), options, torch.Generator().manual_seed(0), far)
    assert report.scores == pytest.approx(score(model, far, k=8).tolist(), rel=1e-4)
    assert min(report.scores) > 100.0
