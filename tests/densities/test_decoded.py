"""The written-out log-density of frozen codes against the modules and finite differences."""

from __future__ import annotations

import pytest
import torch

from vaerl.densities import make_density
from vaerl.densities.cvae import CVAE
from vaerl.densities.decoded import code_density, knows
from vaerl.densities.frozen import decode_codes

HEAD = {"prior": "mixture", "prior_weights": "equal", "blocks": 1, "context_hidden": ()}


def head(**options) -> CVAE:
    torch.manual_seed(0)
    sizes = {"latent_dims": (3,), "prior_components": 4, "hidden": 5, "log_sigma_bounds": (-2, 1)}
    density = make_density("cvae", context_dim=4, event_dim=2, **(HEAD | sizes | options))
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    assert isinstance(density, CVAE)
    return density.double()


def plain(density: CVAE, codes: torch.Tensor, context: torch.Tensor, x: torch.Tensor):
    """The mixture of the decoder's normals, by the modules."""
    p = density.chain.generate(context)
    return decode_codes(density.chain, p, codes, tuple(context.shape[:-1])).log_prob(x)


@pytest.mark.parametrize("rows", [1, 4])
def test_value_and_gradient_are_those_of_the_modules(rows: int) -> None:
    density = head()
    codes = density.draw_codes(6, seed=1).double()
    context, x = torch.randn(rows, 4).double(), torch.randn(rows, 2).double()
    inputs = [context.requires_grad_(), x.requires_grad_()]
    inputs += [p for name, p in density.named_parameters() if "recognition" not in name]
    weights = torch.randn(rows).double()
    found = code_density(density.chain, codes, context, x)
    expected = plain(density, codes, context, x)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
    slopes, wanted = (torch.autograd.grad((v * weights).sum(), inputs) for v in (found, expected))
    for slope, want in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(slope, want, rtol=0.0, atol=1e-12)


def test_gradient_is_that_of_finite_differences() -> None:
    density = head()
    codes = density.draw_codes(3, seed=2).double()
    context = torch.randn(2, 4).double().requires_grad_()
    x = torch.randn(2, 2).double().requires_grad_()
    parameters = [p for name, p in density.named_parameters() if "recognition" not in name]

    def value(*_: torch.Tensor) -> torch.Tensor:
        return code_density(density.chain, codes, context, x)

    assert torch.autograd.gradcheck(value, (context, x, *parameters))


def test_far_points_stay_finite_and_backward_can_be_repeated() -> None:
    density = head().float()
    context, x = torch.randn(3, 4), torch.tensor([[0.0, 0.0], [1e4, 0.0], [-30.0, 60.0]])
    value = density.freeze(density.draw_codes(8, seed=0))(context).log_prob(x).sum()
    value.backward(retain_graph=True)
    once = [p.grad.clone() for p in density.parameters() if p.grad is not None]
    value.backward()
    twice = [p.grad for p in density.parameters() if p.grad is not None]
    assert all(torch.isfinite(slope).all() for slope in once)
    assert all(torch.equal(2 * a, b) for a, b in zip(once, twice, strict=True))


@pytest.mark.parametrize(
    "options",
    [{"blocks": 2}, {"latent_dims": (3, 2)}, {"prior": "gaussian"}, {"prior_weights": "learned"}],
)
def test_other_chains_are_left_to_the_modules(options: dict) -> None:
    density = head(**options)
    assert knows(head().chain) and not knows(density.chain)
    codes = density.draw_codes(5, seed=3).double()
    context, x = torch.randn(4, 4).double(), torch.randn(4, 2).double()
    found = density.freeze(codes)(context).log_prob(x)
    assert torch.equal(found, plain(density, codes, context, x))


def test_samples_are_those_of_the_mixture() -> None:
    """Decoding the drawn codes alone gives what drawing from the whole mixture gives."""
    for options in ({}, {"latent_dims": (3, 2)}, {"prior_weights": "learned"}):
        density = head(**options)
        value = density.freeze(density.draw_codes(5, seed=3).double())(torch.randn(4, 4).double())
        found, expected = (
            draw((6,), torch.Generator().manual_seed(1))
            for draw in (value.rsample, value.mixture.rsample)
        )
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)


def test_a_watched_part_is_called() -> None:
    density, seen = head(), []
    density.chain.generative[0].net.enter.register_forward_hook(lambda *_: seen.append(1))
    density.freeze(density.draw_codes(2, seed=0).double())(torch.zeros(1, 4).double()).log_prob(
        torch.zeros(1, 2).double()
    )
    assert seen
