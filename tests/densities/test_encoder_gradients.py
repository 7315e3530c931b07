"""DReG for any number of layers: unbiased in every parameter of each layer; STL and wake as their
identities say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.densities.linear_gaussian import CHECK_2, check_2_recognition, rows
from vaerl import bounds
from vaerl.densities import make_density
from vaerl.densities.cvae import CVAE


def mean_gradient(
    density: CVAE, names: list[str], context: Tensor, x: Tensor, repeats: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean ascent direction of the bound per parameter, and its standard error, over `repeats`
    batches."""
    parameters = dict(density.named_parameters())
    chosen = [parameters[name] for name in names]
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(repeats):
        loss, _ = density.loss(context, x, diagnostics=False, generator=generator)
        gradient = torch.autograd.grad(-loss.mean(), chosen)
        draws.append(torch.cat([g.flatten() for g in gradient]))
    stacked = torch.stack(draws)
    return stacked.mean(0), stacked.std(0, correction=min(1, repeats - 1)) / repeats**0.5


LINEAR = [f"chain.recognition.{l}.{p}" for l in (0, 1) for p in ("weight", "log_sigma")]


def linear(estimator: str) -> CVAE:
    return CHECK_2.density(check_2_recognition(), k=5, encoder_gradient=estimator, defensive=0.0)


def linear_gradient(estimator: str, rows_: int = 4000, repeats: int = 25) -> tuple[Tensor, Tensor]:
    return mean_gradient(
        linear(estimator), LINEAR, rows(0.0, rows_), rows(1.5, rows_), repeats, seed=11
    )


def test_dreg_reproduces_the_reference_values_of_two_layers() -> None:
    """a .17291, s1 .0044, g .0556, s2 −.1214 at K = 5 (bounds.md, section 5)."""
    mean, error = linear_gradient("dreg")
    reference = torch.tensor([0.17291, 0.0044, 0.0556, -0.1214], dtype=torch.float64)
    assert (error < 1.5e-3).all()
    assert torch.allclose(mean, reference, rtol=0, atol=3e-3)


def test_stl_follows_another_direction_than_the_bound() -> None:
    """STL at K > 1 is ∇L_K plus the wake direction: a .6692, g .2333; the wake rule alone a .4957,
    g .1779."""
    stl, _ = linear_gradient("stl")
    wake, _ = linear_gradient("wake")
    dreg, _ = linear_gradient("dreg")
    assert stl.tolist() == pytest.approx([0.6692, -0.0725, 0.2333, -0.6286], abs=6e-3)
    assert wake[0].item() == pytest.approx(0.4957, abs=6e-3)
    assert wake[2].item() == pytest.approx(0.1779, abs=6e-3)
    assert torch.allclose(stl, dreg + wake, rtol=0, atol=1e-9)


def test_dreg_has_far_less_variance_than_the_total_derivative() -> None:
    """About 200-fold less for the first layer's slope at K = 5."""
    _, total = linear_gradient("total")
    _, dreg = linear_gradient("dreg")
    assert (total[0] / dreg[0]).square().item() > 60.0


def nonlinear(depth: int, estimator: str) -> CVAE:
    torch.manual_seed(depth)
    density = make_density(
        "cvae",
        context_dim=1,
        event_dim=2,
        latent_dims=(2, 2, 2)[:depth],
        prior="mixture",
        prior_components=3,
        hidden=4,
        blocks=1,
        context_hidden=(),
        k=5,
        encoder_gradient=estimator,
    ).double()
    assert isinstance(density, CVAE)
    return density


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_dreg_equals_the_total_derivative_in_every_layer(depth: int) -> None:
    """Means agree within four standard errors for every recognition parameter of each layer at K =
    5."""
    n = 2000
    generator = torch.Generator().manual_seed(5)
    context = torch.randn(1, 1, generator=generator, dtype=torch.float64).expand(n, 1)
    x = torch.randn(1, 2, generator=generator, dtype=torch.float64).expand(n, 2)
    names = [
        name for name, _ in nonlinear(depth, "dreg").named_parameters() if "recognition" in name
    ]
    for layer in range(depth):
        own = [name for name in names if f"recognition.{layer}." in name]
        total, total_error = mean_gradient(nonlinear(depth, "total"), own, context, x, 20, 1)
        dreg, dreg_error = mean_gradient(nonlinear(depth, "dreg"), own, context, x, 20, 2)
        z = (dreg - total) / (total_error.square() + dreg_error.square()).sqrt().clamp_min(1e-9)
        assert z.abs().max() < 5.0, (layer, z)
        assert z.square().mean() < 2.0, (layer, z.square().mean())
        stl, stl_error = mean_gradient(nonlinear(depth, "stl"), own, context, x, 20, 3)
        apart = (stl - total) / (total_error.square() + stl_error.square()).sqrt().clamp_min(1e-9)
        assert apart.abs().max() > 8.0, "STL must be told apart from the gradient of L_5"


def test_detaching_mean_and_scale_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual one-layer code cuts the path through h_1: .2064 instead of .1729 in the first layer
    only."""

    def detached(self, q, laws, path):  # type: ignore[no-untyped-def]
        upper = [
            self.recognition[l](path[l - 1], q[l]).detach().log_prob(path[l])
            for l in range(1, self.depth)
        ]
        return [laws[0].detach().log_prob(path[0]), *upper]

    monkeypatch.setattr("vaerl.densities.chain.LatentChain.log_q_layers_fixed", detached)
    mean, _ = linear_gradient("dreg")
    assert mean.tolist() == pytest.approx([0.2064, 0.0206, 0.0555, -0.1214], abs=3e-3)


def test_scaling_gradients_on_every_layer_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook on each sampled layer scales the path h_2 → h_1 again: .1563 in the first layer."""

    def hooked(self, path):  # type: ignore[no-untyped-def]
        for h in path:
            h.register_hook(lambda gradient: gradient * self.coefficient.unsqueeze(-1))
        return path

    monkeypatch.setattr(bounds.EncoderGradient, "leaves", hooked)
    mean, _ = linear_gradient("dreg")
    assert mean.tolist()[:2] == pytest.approx([0.1563, -0.0037], abs=3e-3)


@pytest.mark.parametrize("estimator", bounds.EncoderGradient.NAMES)
@pytest.mark.parametrize("depth", [1, 2])
def test_decoder_gradient_does_not_depend_on_the_encoder_estimator(
    depth: int, estimator: str
) -> None:
    """θ follows Σ ŵ_i ∇θ log p(x, z_i | c) whatever drives φ."""
    context = torch.randn(6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    names = [n for n, _ in nonlinear(depth, "dreg").named_parameters() if "recognition" not in n]
    reference, _ = mean_gradient(nonlinear(depth, "total"), names, context, x, 1, 4)
    found, _ = mean_gradient(nonlinear(depth, estimator), names, context, x, 1, 4)
    assert torch.allclose(found, reference, rtol=1e-9, atol=1e-12)


def test_weighted_losses_weight_the_gradient() -> None:
    """Per-sample weights multiply each sample's own gradient once, through the scaled junction
    too."""
    context, x = rows(0.0, 2), rows(1.5, 2)
    x = torch.cat([x[:1], -x[1:]])
    density = linear("dreg")
    parameters = [p for n, p in density.named_parameters() if "recognition" in n]

    def gradient(weights: list[float]) -> Tensor:
        loss, _ = density.loss(
            context, x, diagnostics=False, generator=torch.Generator().manual_seed(0)
        )
        weighted = (torch.tensor(weights, dtype=torch.float64) * loss).sum()
        return torch.stack(torch.autograd.grad(weighted, parameters, allow_unused=True)[0:1])

    both, first, second = gradient([2.0, 3.0]), gradient([1.0, 0.0]), gradient([0.0, 1.0])
    assert torch.allclose(both, 2.0 * first + 3.0 * second, rtol=1e-12, atol=0)
