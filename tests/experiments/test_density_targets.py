"""Laws of the targets: normalised, sampled from the law they state, with the entropy they state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaerl.experiments.density_suite.laws import Target, estimate
from vaerl.experiments.density_suite.mixtures import Moerland
from vaerl.experiments.density_suite.targets import (
    TARGETS,
    VALIDATION_TARGETS,
    make_target,
    target_names,
)

MIXTURES = [name for name in target_names() if not name.startswith("arm")]
BOTH = [(name, validation) for validation in (False, True) for name in MIXTURES]
FLAT = [name for name in target_names() if TARGETS[name].event_dim <= 2]


def grid(target: Target, points: int) -> tuple[Tensor, float]:
    """Midpoints (points^X, X) of a regular grid over [−4.5, 6.5] or [−3, 3]², and a cell's size."""
    low, high = (-4.5, 6.5) if target.event_dim == 1 else (-3.0, 3.0)
    step = (high - low) / points
    axis = low + step * (torch.arange(points, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(*[axis] * target.event_dim).reshape(-1, target.event_dim), (
        step**target.event_dim
    )


def on_grid(target: Target, context: float, points: int) -> tuple[Tensor, Tensor]:
    """Grid and probability of each cell at one context."""
    x, cell = grid(target, points)
    contexts = torch.full((len(x), target.context_dim), context, dtype=torch.float64)
    return x, target.log_prob(contexts, x).exp() * cell


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("context", [-0.9, 0.1, 0.6])
def test_density_integrates_to_one(name: str, context: float) -> None:
    """∫ p(x | c) dx = 1."""
    target = make_target(name)
    _, mass = on_grid(target, context, 4000 if target.event_dim == 1 else 300)
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", FLAT)
def test_samples_follow_the_density(name: str) -> None:
    """E over samples of test functions equals their integral under the density."""
    target, context, n = make_target(name), 0.7, 40_000
    x, mass = on_grid(target, context, 4000 if target.event_dim == 1 else 300)
    contexts = torch.full((n, target.context_dim), context, dtype=torch.float64)
    samples = target.sample(contexts, torch.Generator().manual_seed(3))
    for frequency in (0.7, 2.0, 5.0):
        for shift in (0.0, 1.0):
            direction = torch.tensor([1.0, 0.6], dtype=torch.float64)[: target.event_dim]
            mean, error = estimate(torch.cos(frequency * samples @ direction + shift))
            exact = (torch.cos(frequency * x @ direction + shift) * mass).sum().item()
            assert abs(mean - exact) < 4.5 * error + 1e-4, (frequency, shift, mean, exact, error)


@pytest.mark.parametrize("name", ["corners-6d", "low-rank-6d"])
def test_samples_follow_the_density_in_six_dimensions(name: str) -> None:
    """E_p[q(x)/p(x)] = 1 for a law q: a target of other parameters, inside the support of p."""
    target = make_target(name)
    inner = make_target(name, scale=0.8 * target.scale)
    contexts, x = target.draw(100_000, torch.Generator().manual_seed(5))
    mean, error = estimate((inner.log_prob(contexts, x) - target.log_prob(contexts, x)).exp())
    assert abs(mean - 1.0) < 4.5 * error, (mean, error)
    assert error < 0.02


@pytest.mark.parametrize(("name", "validation"), BOTH)
def test_entropy_is_minus_the_mean_log_density(name: str, validation: bool) -> None:
    """E H(p(· | c)) = −E log p(x | c) within the standard errors of fresh draws."""
    target = make_target(name, validation)
    entropy = target.entropy(n=20_000)
    contexts, x = target.draw(20_000, torch.Generator().manual_seed(9))
    direct = estimate(-target.log_prob(contexts, x))
    error = math.hypot(entropy.standard_error, direct.standard_error)
    assert entropy.standard_error <= 1.05 * direct.standard_error
    assert abs(entropy.value - direct.value) < 4.5 * error, (entropy, direct)


@pytest.mark.parametrize("name", MIXTURES)
def test_context_matters(name: str) -> None:
    """With contexts shuffled over the draws, the mean log-density falls by at least 0.1 nats."""
    target = make_target(name)
    contexts, x = target.draw(5_000, torch.Generator().manual_seed(2))
    shuffled = contexts[torch.randperm(len(contexts), generator=torch.Generator().manual_seed(3))]
    loss = target.log_prob(contexts, x) - target.log_prob(shuffled, x).clamp_min(-1e3)
    assert loss.mean().item() > 0.1


@pytest.mark.parametrize("name", MIXTURES)
def test_draws_are_seeded_double_precision_pairs(name: str) -> None:
    """Equal seeds give equal draws; shapes are (n, C), (n, X) and (n,); log p is finite."""
    target = make_target(name)
    contexts, x = target.draw(64, torch.Generator().manual_seed(4))
    again = target.draw(64, torch.Generator().manual_seed(4))
    assert contexts.shape == (64, target.context_dim) and x.shape == (64, target.event_dim)
    assert contexts.dtype == x.dtype == torch.float64
    assert torch.equal(contexts, again[0]) and torch.equal(x, again[1])
    assert target.log_prob(contexts, x).shape == (64,)
    assert target.log_prob(contexts, x).isfinite().all()
    assert contexts.abs().max() <= 1.0


def test_moerland_reproduces_the_published_values() -> None:
    """Oracle NLL −0.3542 (−0.884, −0.397, 0.212 by region), best conditional Gaussian 0.8675."""
    target = Moerland()
    contexts = -1.0 + (torch.arange(1000, dtype=torch.float64) + 0.5).unsqueeze(-1) / 500.0
    step = 11.0 / 550
    x = -4.5 + step * (torch.arange(550, dtype=torch.float64) + 0.5)
    log_p = torch.stack(
        [target.log_prob(contexts, value.expand(len(contexts), 1)) for value in x], dim=-1
    )
    p = log_p.exp() * step
    entropy = -torch.where(p > 0, p * log_p, 0.0).sum(-1)
    mean = (p * x).sum(-1)
    variance = (p * x.square()).sum(-1) - mean.square()
    assert entropy.mean().item() == pytest.approx(-0.3542, abs=2e-4)
    assert entropy[:350].mean().item() == pytest.approx(-0.884, abs=1e-3)
    assert entropy[350:650].mean().item() == pytest.approx(-0.397, abs=1e-3)
    assert entropy[650:].mean().item() == pytest.approx(0.212, abs=1e-3)
    gaussian = 0.5 * (math.log(2.0 * math.pi) + 1.0 + variance.log())
    assert gaussian.mean().item() == pytest.approx(0.8675, abs=1e-3)
    assert target.entropy().value == pytest.approx(-0.3542, abs=5e-3)


def test_validation_targets_are_other_laws_of_the_same_families() -> None:
    """Settings are tuned on laws that differ from those that judge, target by target."""
    assert tuple(VALIDATION_TARGETS) == tuple(TARGETS)
    for name, target in TARGETS.items():
        other = VALIDATION_TARGETS[name]
        assert type(other) is type(target) and other != target
        assert (other.context_dim, other.event_dim) == (target.context_dim, target.event_dim)


def test_unknown_target_names_the_nearest() -> None:
    """An unknown name is refused in one line with the nearest match."""
    with pytest.raises(ValueError, match="target: got 'rings', did you mean 'ring-2d'"):
        make_target("rings")
