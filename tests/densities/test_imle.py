"""IMLE: the loss of the nearest code, whose gradient reaches no other; outcomes stay apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vaerl.densities import make_density
from vaerl.densities.imle import IMLE


def made(**options: object) -> IMLE:
    torch.manual_seed(0)
    built = make_density("imle", context_dim=2, event_dim=2, hidden=8, context_hidden=(), **options)
    assert isinstance(built, IMLE)
    return built.double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs() -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(2, 6, 2, dtype=torch.float64, generator=seeded(3)))  # type: ignore[return-value]


def test_the_loss_is_that_of_the_nearest_code() -> None:
    """With residuals below kappa the least −log p(x | z, c) over the codes drawn; its mean lies
    above −log of their mean and below it by at most log K."""
    built, (context, x) = made(codes=5, kappa=100.0), pairs()
    loss, info = built.loss(context, x, generator=seeded(1))
    p = built.chain.generate(context)
    law = built.chain.decode(p, built.chain.sample_prior(p, (5,), seeded(1)))
    each = -law.log_prob(x)
    torch.testing.assert_close(loss, each.amin(0), rtol=1e-12, atol=1e-12)
    bound = (math.log(5) - torch.logsumexp(-each, dim=0)).mean()
    assert info["nll_bound"].item() == pytest.approx(bound.item(), abs=1e-12)
    assert info["nll_bound"] - math.log(5) <= info["nearest_nll"] <= info["nll_bound"]


def test_beyond_kappa_the_error_is_linear() -> None:
    """Twice as far beyond costs kappa / σ² more for each unit, and no square."""
    built, (context, _) = made(codes=1, kappa=0.5), pairs()
    p = built.chain.generate(context)
    law = built.chain.decode(p, built.chain.sample_prior(p, (1,), seeded(1)))
    far = [built.loss(context, law.mean[0] + by, generator=seeded(1))[0] for by in (1, 2, 3)]
    rate = (0.5 * torch.exp(-2.0 * law.log_sigma[0])).sum(-1)
    torch.testing.assert_close(far[1] - far[0], rate, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(far[2] - far[1], rate, rtol=1e-9, atol=1e-9)


def test_no_other_code_gets_a_gradient() -> None:
    """The gradient is that of −log p(x | z, c) at the nearest codes alone."""
    built, (context, x) = made(codes=4, kappa=100.0), pairs()
    parameters = list(built.parameters())
    found = torch.autograd.grad(built.loss(context, x, generator=seeded(1))[0].sum(), parameters)
    p = built.chain.generate(context)
    (z,) = built.chain.sample_prior(p, (4,), seeded(1))
    best = (-built.chain.decode(p, (z,)).log_prob(x)).argmin(0)
    own = z[best, torch.arange(len(best))]
    wanted = torch.autograd.grad(-built.chain.decode(p, (own,)).log_prob(x).sum(), parameters)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_two_outcomes_stay_apart() -> None:
    """At ±1 with noise of 0.1 both sides are drawn, and what lies between is rare."""
    torch.manual_seed(0)
    built = make_density("imle", context_dim=1, event_dim=1, hidden=32, blocks=1)
    optimizer = torch.optim.Adam(built.parameters(), 1e-2)
    context, generator = torch.zeros(256, 1), seeded()
    for _ in range(200):
        side = 2.0 * (torch.rand(256, 1, generator=generator) < 0.5) - 1.0
        x = side + 0.1 * torch.randn(256, 1, generator=generator)
        optimizer.zero_grad()
        built.loss(context, x, generator=generator)[0].mean().backward()
        optimizer.step()
    drawn = built(torch.zeros(4000, 1)).sample((), seeded(1)).flatten()
    assert min((drawn > 0.5).double().mean(), (drawn < -0.5).double().mean()) > 0.2
    assert (drawn.abs() < 0.5).double().mean() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dims": (2, 2)}, "latent_dims: got .2, 2., expected one size"),
        ({"kappa": 0.0}, "kappa: got 0.0, expected a positive finite number"),
        ({"codes": 0}, "codes: got 0"),
        ({"whole": True}, "whole: unknown option of density 'imle'"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)
