"""`sample_mean` leaves out the noise around a latent: same mean, the variance between latents."""

from __future__ import annotations

import pytest
import torch

from vaerl import make_density
from vaerl.densities import density_names

DRAWS = 40_000


@pytest.mark.parametrize("name", density_names())
@pytest.mark.parametrize("squash", [False, True])
def test_it_draws_what_the_density_says(name: str, squash: bool) -> None:
    """A mean does not vary; samples are those of `sample`; means given latents are neither."""
    torch.manual_seed(0)
    density = make_density(name, context_dim=2, event_dim=2, squash=squash)
    value = density(torch.tensor([[0.3, -0.7]]))
    means = value.sample_mean((100,), torch.Generator().manual_seed(1))
    samples = value.sample((100,), torch.Generator().manual_seed(1))
    still, same = bool((means == means[0]).all()), torch.equal(means, samples)
    kinds = {(True, False): "mean", (False, False): "latent", (False, True): "sample"}
    assert kinds[still, same] == density.sample_mean_kind


@pytest.mark.parametrize("name", [name for name in density_names() if name != "flow"])
def test_it_is_the_conditional_mean_of_a_sample(name: str) -> None:
    """E[E[x | z]] = E[x] and Var x = E[Var(x | z)] + Var(E[x | z])."""
    torch.manual_seed(0)
    density = make_density(name, context_dim=2, event_dim=2)
    value = density(torch.tensor([[0.3, -0.7]]))
    generator = torch.Generator().manual_seed(1)
    means = value.sample_mean((DRAWS,), generator)
    samples = value.sample((DRAWS,), generator)
    assert means.shape == samples.shape == (DRAWS, 1, 2)
    error = samples.std(0) / DRAWS**0.5  # of a mean over the draws
    assert ((means.mean(0) - samples.mean(0)).abs() < 6.0 * error).all()
    assert (means.var(0) < 0.98 * samples.var(0)).all()
    if name == "gaussian":
        assert means.var(0).max() < 1e-9


def test_a_mixture_gives_the_means_of_its_components_by_their_weights() -> None:
    torch.manual_seed(0)
    value = make_density("mixture", context_dim=1, event_dim=1, components=3)(torch.zeros(1, 1))
    places, weights = value.mixture.mean[0, :, 0], value.mixture.log_weights[0].exp()  # type: ignore[attr-defined]
    drawn = value.sample_mean((DRAWS,), torch.Generator().manual_seed(0)).flatten()
    for place, weight in zip(places, weights, strict=True):
        share = (drawn == place).double().mean()
        assert abs(share - weight) < 6.0 * (weight * (1 - weight) / DRAWS) ** 0.5
