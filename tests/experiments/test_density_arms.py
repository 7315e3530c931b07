"""Inverse kinematics as a density task: the posterior is exact up to the evidence it states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vaerl.experiments.density_suite.arms import ArmTarget
from vaerl.experiments.density_suite.targets import make_target

DRAWS = 100_000  # of the prior: enough at this σ, and quick
WIDE = {"sigma": 0.1, "draws": DRAWS}


@pytest.mark.parametrize("name", ["arm-4", "arm-8", "arm-16"])
def test_the_evidence_is_that_of_the_environment(name: str) -> None:
    """log p(y) equals the Monte-Carlo evidence over 10⁶ other draws, where y is likely."""
    target = make_target(name, **WIDE)
    for place in torch.tensor([[0.0, 0.0], [0.5, -0.5]]):
        posterior = target.posterior(place)
        found = target.evidence().log_prob(target.sights(place.unsqueeze(0)))
        # both counts hold n ≈ p(y)·4πσ²·draws weighted draws, so their errors are 1/√n
        n = math.exp(posterior.log_evidence) * 4.0 * math.pi * target.sigma**2 * DRAWS
        assert found[0] == pytest.approx(posterior.log_evidence, abs=4.5 / math.sqrt(n))


def test_the_evidence_integrates_to_one() -> None:
    """∫ p(y) dy = 1 over the grid, which holds every tip."""
    evidence = make_target("arm-8", **WIDE).evidence()
    assert evidence.density.sum() * evidence.cell**2 == pytest.approx(1.0, rel=1e-9)


def test_a_pair_as_it_arises_and_a_draw_by_rejection_are_of_one_law() -> None:
    """E log p(x | c) is that of the joint draws where x is drawn anew for the same contexts."""
    target = make_target("arm-4", sigma=0.3, draws=DRAWS)
    contexts, x = target.draw(30, torch.Generator().manual_seed(1))
    many = contexts.repeat_interleave(100, dim=0)
    again = target.sample(many, torch.Generator().manual_seed(2))
    per_context = target.log_prob(many, again).reshape(30, 100)
    difference = target.log_prob(contexts, x) - per_context.mean(1)
    error = difference.std().item() / math.sqrt(30)
    assert abs(difference.mean().item()) < 4.5 * error


def test_contexts_are_standardised_sights_of_the_tip() -> None:
    """y is within noise of the tip of its posture, and contexts have mean 0 and scale 1."""
    target = make_target("arm-8", **WIDE)
    contexts, x = target.draw(20_000, torch.Generator().manual_seed(0))
    offset = target.sights(contexts) - target.arm.tip(x.numpy())
    assert np.allclose(offset.std(0), target.sigma, rtol=0.03)  # 20,000 draws: 0.5 %
    assert contexts.mean(0).abs().max() < 0.04 and (contexts.std(0) - 1.0).abs().max() < 0.04


def test_exact_draws_score_their_ceiling_and_the_prior_does_not() -> None:
    """Error and mismatch of exact samples are those of the posterior; the prior misses the tip."""
    target = make_target("arm-4", sigma=0.3, draws=DRAWS)
    assert isinstance(target, ArmTarget)
    exact = target.judge(lambda c: target.sample(c, torch.Generator().manual_seed(3)))
    prior = target.judge(lambda c: target.draw(len(c), torch.Generator().manual_seed(3))[1])
    assert exact["error"] == pytest.approx(exact["error_ceiling"], rel=0.05)
    assert exact["mismatch"] < 2.0 * exact["mismatch_floor"]
    assert prior["error"] > 1.5 * exact["error"]
    assert prior["mismatch"] > 10.0 * exact["mismatch_floor"]
