"""Laws that every density must obey, whatever its name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaerl.densities import (
    ConditionalDensity,
    IntractableError,
    density_class,
    density_names,
    make_density,
)
from vaerl.densities.squash import Squashed, log_det_tanh, unsquash

SMALL = {
    "gaussian": {"hidden": (8,)},
    "mixture": {"hidden": (8,), "components": 3},
    "cvae": {
        "hidden": 8,
        "context_hidden": (8,),
        "latent_dims": (2,),
        "prior_components": 3,
        "log_sigma_bounds": (-2.0, 0.0),
        "latent_log_sigma_bounds": (-2.0, 0.5),
    },
    "imle": {
        "hidden": 8,
        "context_hidden": (8,),
        "latent_dims": (2,),
        "log_sigma_bounds": (-2.0, 0.0),
    },
    "flow": {"hidden": (8,), "transforms": 2, "bins": 4},
}
CASES = [
    *((name, SMALL[name]) for name in density_names()),
    ("cvae", {**SMALL["cvae"], "latent_dims": (2, 2), "prior": "gaussian"}),
    ("cvae", {**SMALL["cvae"], "latent_dims": (2, 1, 2), "prior": "standard"}),
]
IDS = [f"{name}-{len(o.get('latent_dims', ())) or ''}".rstrip("-") for name, o in CASES]


def density(name: str, options: dict, event_dim: int = 1, **more: object) -> ConditionalDensity:
    torch.manual_seed(0)
    built = make_density(name, context_dim=2, event_dim=event_dim, **{**options, **more})
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built.double()


def contexts(n: int = 3) -> Tensor:
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def exact_log_prob(
    built: ConditionalDensity, context: Tensor, x: Tensor, codes: int = 4096
) -> Tensor:
    """log p(x | c): exact where it is, else by quasi-Monte-Carlo over the latents (a fine frozen
    mixture)."""
    with torch.no_grad():
        if built.code_dim:
            return built.freeze(built.draw_codes(codes, seed=9).double())(context).log_prob(x)
        return built(context).log_prob(x)


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_density_integrates_to_one(name: str, options: dict, squash: bool) -> None:
    """∫ p(x | c) dx = 1 in every context, on the line or on (−1, 1)."""
    built = density(name, options, squash=squash)
    u = torch.linspace(-14.0, 14.0, 1401, dtype=torch.float64) / (2.0 if squash else 1.0)
    x = torch.tanh(u) if squash else u
    log_prob = exact_log_prob(built, contexts()[:1], x[:, None, None], codes=7)
    integral = torch.trapezoid(log_prob[:, 0].exp(), x)
    assert integral.item() == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[1].get("latent_dims")])
def test_bounds_close_on_the_quadrature_density(name: str, options: dict) -> None:
    """The lower bound with 3000 paths and the frozen quadrature agree at points of the model."""
    built = density(name, options)
    context = contexts()[:1]
    with torch.no_grad():
        x = built(context).sample((8,), torch.Generator().manual_seed(1))
        lower = (
            built(context)
            .log_prob_bounds(x, 3000, generator=torch.Generator().manual_seed(2))
            .lower
        )
    assert (lower - exact_log_prob(built, context, x)).median().abs() < 0.1


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_samples_follow_the_density(name: str, options: dict, squash: bool) -> None:
    """E f(x) over samples equals ∫ f p for f = sin 2x, and samples stay in the box when
    squashed."""
    built = density(name, options, squash=squash)
    context = contexts()[:1]
    samples = built(context).sample((20_000,), torch.Generator().manual_seed(3))
    u = torch.linspace(-14.0, 14.0, 1401, dtype=torch.float64) / (2.0 if squash else 1.0)
    x = torch.tanh(u) if squash else u
    p = exact_log_prob(built, context, x[:, None, None])[:, 0].exp()
    expected = torch.trapezoid(torch.sin(2.0 * x) * p, x)
    error = torch.sin(2.0 * samples).std().item() / math.sqrt(20_000)
    assert torch.sin(2.0 * samples).mean().item() == pytest.approx(expected.item(), abs=5 * error)
    if squash:
        assert samples.abs().max() < 1.0


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_entropy_bounds_stand_on_their_sides_of_the_quadrature_entropy(
    name: str, options: dict, squash: bool
) -> None:
    """−E U_k ≤ H ≤ −E L_k: with the generating latents below, the plain IWAE bound above."""
    built = density(name, options, squash=squash)
    context = contexts()[:1]
    u = torch.linspace(-14.0, 14.0, 1401, dtype=torch.float64) / (2.0 if squash else 1.0)
    x = torch.tanh(u) if squash else u
    log_p = exact_log_prob(built, context, x[:, None, None])[:, 0]
    entropy = -torch.trapezoid(log_p.exp() * log_p, x).item()
    lower, upper = built(context).entropy_bounds(4, 8000, torch.Generator().manual_seed(4))
    if built.code_dim:
        assert lower.item() < entropy < upper.item()
    else:
        assert torch.equal(lower, upper)
        assert lower.item() == pytest.approx(entropy, abs=0.06)
    if name == "gaussian" and not squash:
        assert built(context).entropy().item() == pytest.approx(entropy, abs=1e-3)
    else:
        with pytest.raises(IntractableError, match="entropy_bounds"):
            built(context).entropy()


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_every_parameter_gets_a_gradient(name: str, options: dict) -> None:
    """From the fitting loss, and from a sample with its log-density (all but weights that have no
    path)."""
    built = density(name, options, event_dim=2)
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    loss, info = built.loss(contexts(), x)
    assert loss.shape == (3,)
    assert all(torch.isfinite(v).all() and not v.requires_grad for v in info.values())
    loss.sum().backward()
    assert [n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []
    built.zero_grad()
    sample, log_prob = built(contexts()).rsample_and_log_prob(3)
    (sample.sum() + log_prob.sum()).backward()
    assert [n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_shapes_of_the_contract(name: str, options: dict, squash: bool) -> None:
    """Samples are sample_shape + batch + (X,), log-densities sample_shape + batch, for any
    batch."""
    built = density(name, options, event_dim=2, squash=squash)
    for batch in ((), (1,), (3,), (2, 3)):
        context = torch.zeros(*batch, 2, dtype=torch.float64)
        value = built(context)
        assert isinstance(value, Distribution)
        assert (value.batch_shape, value.event_shape) == (torch.Size(batch), torch.Size((2,)))
        for sample_shape in ((), (4,), (4, 2)):
            x, latents = value.rsample_with_latents(sample_shape)
            assert x.shape == (*sample_shape, *batch, 2)
            bounds = value.log_prob_bounds(x, 3, latents)
            assert bounds.lower.shape == bounds.upper.shape == (*sample_shape, *batch)
            x, log_prob = value.rsample_and_log_prob(2, sample_shape)
            assert (x.shape, log_prob.shape) == (
                (*sample_shape, *batch, 2),
                (*sample_shape, *batch),
            )
        assert value.mode().shape == (*batch, 2)
        assert value.entropy_bounds(2, 4).lower.shape == batch


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_mode_is_deterministic_and_dense(name: str, options: dict, squash: bool) -> None:
    """The mode reads no random stream, and in u-space is denser than most samples."""
    built = density(name, options, event_dim=1, squash=squash)
    context = contexts()[:1]
    state = torch.get_rng_state()
    mode = built(context).mode()
    assert torch.equal(mode, built(context).mode())
    assert torch.equal(state, torch.get_rng_state())
    samples = built(context).sample((200,), torch.Generator().manual_seed(6))

    def density_in_u(x: Tensor) -> Tensor:
        log_prob = exact_log_prob(built, context, x)
        return log_prob + log_det_tanh(unsquash(x)) if squash else log_prob

    assert (density_in_u(mode[None]) > density_in_u(samples) - 0.2).double().mean() > 0.85


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_log_prob_is_exact_or_refuses(name: str, options: dict) -> None:
    """A latent density never passes a bound off as log_prob; its error names the calls that
    work."""
    value = density(name, options)(contexts())
    x = torch.zeros(3, 1, dtype=torch.float64)
    if not SMALL[name].get("latent_dims"):
        lower, upper = value.log_prob_bounds(x, 5)
        assert value.exact
        assert torch.equal(lower, value.log_prob(x))
        assert torch.equal(upper, value.log_prob(x))
        return
    assert not value.exact
    with pytest.raises(IntractableError, match=r"log_prob_bounds.*rsample_and_log_prob.*freeze"):
        value.log_prob(x)
    assert value.log_prob_bounds(x, 5).upper is None


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_generator_decides_every_draw(name: str, options: dict, squash: bool) -> None:
    """Equal generators give equal samples, and torch's global stream is left alone."""
    value = density(name, options, squash=squash)(contexts())
    state = torch.get_rng_state()
    draws = [
        value.rsample_and_log_prob(3, (2,), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_fitting_moves_the_density_to_the_data(name: str, options: dict) -> None:
    """Sixty steps on N(2c, 0.3²) lower the loss by at least half a nat."""
    built = density(name, options).float()
    optimizer = torch.optim.Adam(built.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(7)
    losses = []
    for _ in range(60):
        context = torch.randn(128, 2, generator=generator)
        x = 2.0 * context[:, :1] + 0.3 * torch.randn(128, 1, generator=generator)
        loss = built.loss(context, x)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


LARGE_CASES = [
    *((name, {}) for name in density_names()),
    *((name, density_class(name).options_for["off"]) for name in ("mixture", "cvae")),
    ("cvae", {"latent_dims": (3, 2), "blocks": 1}),
]


@pytest.mark.parametrize("power", range(11))
@pytest.mark.parametrize(("name", "options"), LARGE_CASES)
def test_large_contexts_leave_losses_and_gradients_finite(
    name: str, options: dict, power: int
) -> None:
    """Of fits and of own samples, in float32, at contexts of 1 to 1e10."""
    torch.manual_seed(power)
    built = make_density(name, context_dim=5, event_dim=2, squash=True, **options)
    context = 10.0**power * torch.randn(16, 5)
    x, log_prob = built(context).rsample_and_log_prob(4)
    fit = built.loss(context, torch.tanh(torch.randn(16, 2)))[0].mean()
    assert bool(torch.isfinite(x).all()) and bool(torch.isfinite(built(context).mode()).all())
    for loss in (fit, log_prob.mean()):
        built.zero_grad()
        loss.backward()
        assert math.isfinite(loss.item())
        for parameter in built.parameters():
            assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())


def test_tanh_correction_is_exact_in_float32() -> None:
    """log(1 − tanh² u) in float32 agrees with −2 log cosh u in float64 to 1e-6, out to |u| = 15."""
    u = torch.linspace(-15.0, 15.0, 601)[:, None]
    exact = -2.0 * (torch.cosh(u.double())).log().sum(-1)
    assert torch.allclose(log_det_tanh(u).double(), exact, rtol=1e-6, atol=1e-6)
    assert log_det_tanh(torch.tensor([9.5])).item() == pytest.approx(
        2 * math.log(2) - 19.0, abs=1e-5
    )
    edge = torch.tensor([[-1.0, 1.0]])
    assert unsquash(edge).abs().max() < 7.3
    assert torch.isfinite(log_det_tanh(unsquash(edge))).all()


def test_squashed_log_density_is_that_of_u_corrected_once() -> None:
    """One correction for the whole mixture of paths: both bounds move by the same number."""
    plain = density("cvae", SMALL["cvae"], event_dim=2)
    squashed = Squashed(plain)
    u, latents = plain(contexts()).rsample_with_latents((), torch.Generator().manual_seed(1))
    seeds = [torch.Generator().manual_seed(2) for _ in range(2)]
    a = plain(contexts()).log_prob_bounds(u, 4, latents, seeds[0])
    b = squashed(contexts()).log_prob_bounds(torch.tanh(u), 4, latents, seeds[1])
    for in_u, in_x in zip(a, b, strict=True):
        assert torch.allclose(in_x, in_u - log_det_tanh(u), rtol=0, atol=1e-8)
