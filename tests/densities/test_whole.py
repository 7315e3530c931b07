"""Densities over whole numbers: masses that sum to one, draws that follow them, tails that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from vaerl.densities import IntractableError, make_density
from vaerl.densities.whole import WholeMixture, WholeNormal, log_cell_mass

OPTIONS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "mixture": {"components": 3},
    "cvae": {"latent_dims": (2,), "prior_components": 4},
}
GRID = torch.cartesian_prod(*[torch.arange(-12.0, 13.0)] * 2)


def whole(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    kwargs = {**OPTIONS[name], **options}
    return make_density(name, context_dim=3, event_dim=2, whole=True, **kwargs)


def exact(name: str, density: Any, context: torch.Tensor) -> Any:
    """The value itself, or that of a CVAE frozen at some codes, whose masses are exact."""
    return (
        density.freeze(density.draw_codes(32, 1))(context) if name == "cvae" else density(context)
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_masses_sum_to_one_and_draws_follow_them(name: str) -> None:
    value = exact(name, whole(name), torch.randn(1, 3))
    with torch.no_grad():
        mass = value.log_prob(GRID.unsqueeze(1)).exp().squeeze(1)
        draws = value.sample((40_000,), torch.Generator().manual_seed(0)).squeeze(1)
    assert abs(mass.sum().item() - 1.0) < 1e-4
    assert torch.equal(draws, draws.round())
    place = ((draws + 12.0) @ torch.tensor([25.0, 1.0])).long()
    share = torch.bincount(place, minlength=625) / len(draws)
    assert torch.allclose(share, mass, atol=5.0 * 0.5 / len(draws) ** 0.5)
    best = value.mode()
    assert torch.equal(best, best.round())


@pytest.mark.parametrize("distance", [0.0, 0.3, 0.5, 1.0, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("sigma", [0.082, 0.5, 3.0, 7.3])
def test_masses_against_scipy(distance: float, sigma: float) -> None:
    """In float32, tails too, where a difference of two Φ would be 0."""
    far = -(distance + 0.5) / sigma
    near = (0.5 - distance) / sigma
    log_near, log_far = norm.logcdf(near), norm.logcdf(far)
    expected = log_near + torch.log1p(-torch.tensor(log_far - log_near).double().exp()).item()
    d = torch.tensor(distance, requires_grad=True)
    found = log_cell_mass(d, torch.tensor(1.0 / sigma))
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    (slope,) = torch.autograd.grad(found, d)
    pull = norm.logpdf(near) - expected, norm.logpdf(far) - expected
    assert slope.item() == pytest.approx((np.exp(pull[1]) - np.exp(pull[0])) / sigma, 1e-4, 1e-5)


def test_what_has_no_closed_form_says_so() -> None:
    law = WholeNormal(torch.zeros(2, requires_grad=True), torch.zeros(2))
    mixture = WholeMixture(torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 2))
    for call in (law.entropy, law.moments, mixture.moments, law.rsample):
        with pytest.raises(IntractableError, match=r"whole numbers ha(s|ve) no"):
            call()
    assert law.detach().rsample().shape == (2,)
    with pytest.raises(IntractableError, match="no pathwise gradient"):
        exact("cvae", whole("cvae"), torch.zeros(1, 3)).rsample()


def fit(density: Any, steps: int = 250) -> float:
    """Fit to two atoms, (0, 0) and (3, −2), of equal chances; the last losses' mean, in nats."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(density.parameters(), 1e-2)
    context, losses = torch.zeros(128, 3), []
    for _ in range(steps):
        one = torch.randint(2, (128, 1)).float()
        loss = density.loss(context, one * torch.tensor([3.0, -2.0]), diagnostics=False)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


def test_two_atoms_cost_log_two_and_a_gaussian_more() -> None:
    """The best a density over whole numbers can do is the entropy: no density grows without end."""
    entropy = torch.tensor(2.0).log().item()
    for name in ("mixture", "cvae"):
        density = whole(name, k=8) if name == "cvae" else whole(name)
        assert fit(density) == pytest.approx(entropy, abs=0.05), name
        draws = density(torch.zeros(1, 3)).sample((2000,)).squeeze(1)
        at = [(draws == torch.tensor(x)).all(1).float().mean() for x in ([0.0, 0.0], [3.0, -2.0])]
        assert min(at) > 0.4 and sum(at) > 0.97, name
    assert fit(whole("gaussian")) > entropy + 2.0


def test_refusals() -> None:
    make: Any = make_density
    sizes = {"context_dim": 3, "event_dim": 2}
    with pytest.raises(ValueError, match="whole: got True with squash"):
        make("mixture", **sizes, whole=True, squash=True)
    with pytest.raises(ValueError, match="whole: got 'yes', expected True or False"):
        make("cvae", **sizes, whole="yes")
    with pytest.raises(ValueError, match=r"log_sigma_bounds: got .* with whole=True"):
        make("gaussian", **sizes, whole=True, log_sigma_bounds=(-9.0, -4.0))
    with pytest.raises(ValueError, match="whole: unknown option of density 'flow'"):
        make("flow", **sizes, whole=True)
    for name in OPTIONS:
        with pytest.raises(ValueError, match=r"x: got 0\.25, expected whole numbers"):
            whole(name).loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.25]]))
