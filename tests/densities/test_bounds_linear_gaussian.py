"""The bounds against closed forms of the linear-Gaussian chain, in float64, for L = 1, 2, 3."""

from __future__ import annotations

import pytest
import torch

from tests.densities.linear_gaussian import (
    BY_DEPTH,
    CHECK_1,
    CHECK_2,
    check_2_recognition,
    rows,
)
from vaerl import bounds


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_closed_form_of_check_1_agrees_with_the_document() -> None:
    """log p = −1.2254377150 and ∂ log p/∂α = .320469 (bounds.md, section 13)."""
    assert CHECK_1.log_prob(1.5, 1.1) == pytest.approx(-1.2254377150, abs=1e-10)
    density = CHECK_1.density(k=3, defensive=0.0)
    loss, _ = density.loss(rows(1.1, 50), rows(1.5, 50), generator=generator())
    (-loss.mean()).backward()
    assert density.chain.prior.weight.grad.item() == pytest.approx(0.320469, abs=0.08)
    loss, _ = density.loss(rows(1.1, 40_000), rows(1.5, 40_000), generator=generator(1))
    density.zero_grad()
    (-loss.mean()).backward()
    assert density.chain.prior.weight.grad.item() == pytest.approx(0.320469, abs=0.006)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_exact_posterior_makes_every_bound_the_log_density(depth: int) -> None:
    """With q the exact posterior, L_K = U_K = log p for every K, with zero variance."""
    chain = BY_DEPTH[depth]
    density = chain.density(defensive=0.0)
    value = density(rows(1.1, 20))
    x, latents = value.rsample_with_latents((), generator())
    truth = torch.tensor([chain.log_prob(v, 1.1) for v in x[:, 0].tolist()], dtype=torch.float64)
    for k in (1, 2, 7):
        lower, upper = value.log_prob_bounds(x, k, latents, generator(100 + k))
        assert torch.allclose(lower, truth, rtol=0, atol=1e-12)
        assert torch.allclose(upper, truth, rtol=0, atol=1e-12)
    loss, info = density.loss(rows(1.1, 20), x.detach(), generator=generator())
    assert torch.allclose(-loss, truth, rtol=0, atol=1e-12)
    assert info["ess_ratio"].item() == pytest.approx(1.0, abs=1e-12)


def test_elbo_and_its_gradient_are_those_of_check_2() -> None:
    """ELBO −2.256677 and gradient a .738000, s1 −.244471, g .378246, s2 −1.442806."""
    for estimator in ("total", "dreg"):
        layers = check_2_recognition()
        density = CHECK_2.density(
            layers, objective="elbo", encoder_gradient=estimator, defensive=0.0
        )
        n = 100_000
        loss, info = density.loss(rows(0.0, n), rows(1.5, n), generator=generator(3))
        assert -loss.mean().item() == pytest.approx(-2.256677, abs=0.006)
        (-loss.mean()).backward()
        found = [
            layers[0].weight.grad.item(),
            layers[0].log_sigma.grad.item(),
            layers[1].weight.grad.item(),
            layers[1].log_sigma.grad.item(),
        ]
        assert found == pytest.approx([0.738000, -0.244471, 0.378246, -1.442806], abs=0.015)
        rate = info["kl_layer_1"] + info["kl_layer_2"]
        assert rate.item() > 0.0


def test_upper_bound_without_proposals_is_the_eubo_of_check_2() -> None:
    """U_0 = −1.588207 in expectation at x = 1.5, with z_0 drawn from the exact posterior."""
    exact = CHECK_2.density(defensive=0.0)
    density = CHECK_2.density(check_2_recognition(), defensive=0.0)
    n = 400_000
    context, x = rows(0.0, n), rows(1.5, n)
    path, _ = exact.chain.infer(exact.chain.recognise(context), x, (), generator(5))
    upper = density(context).log_prob_bounds(x, 0, path, generator(6)).upper
    assert upper.mean().item() == pytest.approx(-1.588207, abs=4 * upper.std().item() / n**0.5)


def test_bounds_of_check_2_follow_the_table_and_bracket_log_p() -> None:
    """L_K rises, U_K falls, both towards log p = −1.843245, at the values of section 13."""
    exact = CHECK_2.density(defensive=0.0)
    density = CHECK_2.density(check_2_recognition(), defensive=0.0)
    n = 60_000
    context, x = rows(0.0, n), rows(1.5, n)
    path, _ = exact.chain.infer(exact.chain.recognise(context), x, (), generator(7))
    table = {
        1: (-2.25668, -1.7184),
        2: (-1.9994, -1.7611),
        5: (-1.8958, -1.8031),
        10: (-1.8679, -1.8214),
    }
    lowers, uppers = [], []
    with torch.no_grad():
        for k, (lower, upper) in table.items():
            found = density(context).log_prob_bounds(x, k, path, generator(k))
            lowers.append(found.lower.mean().item())
            uppers.append(found.upper.mean().item())
            assert lowers[-1] == pytest.approx(lower, abs=0.02)
            assert uppers[-1] == pytest.approx(upper, abs=0.01)
    assert lowers == sorted(lowers)
    assert uppers == sorted(uppers, reverse=True)
    assert lowers[-1] < -1.843245 < uppers[-1]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("defensive", [0.0, 0.1, 1.0])
def test_sandwich_holds_on_the_models_own_samples(depth: int, defensive: float) -> None:
    """E L_k ≤ E log p ≤ E U_k, the lower rising and the upper falling in k, for every proposal."""
    chain = BY_DEPTH[depth]
    layers = chain.posterior_layers()
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(0.6)
            layer.log_sigma.add_(0.2)
    density = chain.density(layers, defensive=defensive)
    value = density(rows(1.1, 20_000))
    with torch.no_grad():
        x, latents = value.rsample_with_latents((), generator(1))
        mean, spread = chain.means(1.1)[0], chain.spreads()[0]
        truth = torch.distributions.Normal(mean, spread**0.5).log_prob(x[:, 0])
        gaps = []
        for k in (1, 4, 16):
            lower, upper = value.log_prob_bounds(x, k, latents, generator(100 + k))
            gaps.append(((truth - lower).mean().item(), (upper - truth).mean().item()))
    lower_gaps, upper_gaps = zip(*gaps, strict=True)
    assert all(gap > 0.0 for gap in (*lower_gaps, *upper_gaps)), gaps
    assert lower_gaps == tuple(sorted(lower_gaps, reverse=True))
    assert upper_gaps == tuple(sorted(upper_gaps, reverse=True))
    assert lower_gaps[-1] < 0.2 * lower_gaps[0]


def test_defensive_proposal_bounds_every_weight() -> None:
    """w ≤ p(x | z, c)/λ: the weight of any path is capped by the prior's share."""
    density = BY_DEPTH[2].density(check_2_recognition(), defensive=0.1)
    chain = density.chain
    context = rows(1.1, 500)
    value = density(context)
    x, path = value.rsample_with_latents((), generator())
    upper = value.log_prob_bounds(x, 0, path).upper
    ceiling = chain.decode(chain.generate(context), path).log_prob(x) - torch.log(torch.tensor(0.1))
    assert (upper <= ceiling + 1e-12).all()


def test_estimates_of_log_p_are_closer_than_the_bound_they_correct() -> None:
    """The jackknife and the delta method take most of the bias of L_10."""
    density = CHECK_2.density(check_2_recognition(), defensive=0.0)
    context, x = rows(0.0, 60_000), rows(1.5, 60_000)
    with torch.no_grad():
        *_, log_w = density._training_bound(context, x, generator(2), 1.0)
    truth = CHECK_2.log_prob(1.5, 0.0)
    bias = abs(bounds.iwae(log_w).mean().item() - truth)
    assert abs(bounds.jackknife(log_w).mean().item() - truth) < 0.5 * bias
    assert abs(bounds.delta_corrected(log_w).mean().item() - truth) < 0.5 * bias
