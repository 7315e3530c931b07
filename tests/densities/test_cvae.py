"""What is particular to the CVAE: objectives, active units, frozen codes, its options and its
refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaerl.densities import make_density
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import MixturePrior
from vaerl.densities.normal import DiagonalNormal
from vaerl.densities.squash import Squashed


def cvae(**options: object) -> CVAE:
    torch.manual_seed(0)
    settings = {"context_dim": 2, "event_dim": 2, "latent_dims": (2,), "hidden": 16, **options}
    built = make_density("cvae", **settings)
    assert isinstance(built, CVAE)
    return built


def data(n: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, 2, generator=generator), torch.randn(n, 2, generator=generator)


@pytest.mark.parametrize(
    ("event_dim", "hidden", "units"), [(1, 64, 3), (3, 64, 3), (4, 64, 4), (16, 64, 16), (16, 8, 4)]
)
def test_by_default_latents_follow_the_event(event_dim: int, hidden: int, units: int) -> None:
    """Three latents, or as many as x has dimensions if that is more, at most half of `hidden`."""
    assert CVAE(2, event_dim, hidden=hidden).latent_dims == (units,)


@pytest.mark.parametrize(("event_dim", "hidden"), [(8, 64), (8, 10)])
def test_a_wide_event_starts_near_the_identity(event_dim: int, hidden: int) -> None:
    """Encoder and decoder copy the dimensions that have a latent, up to small random weights."""
    torch.manual_seed(0)
    built, generator = CVAE(2, event_dim, hidden=hidden), torch.Generator().manual_seed(1)
    context, x = torch.randn(256, 2), torch.randn(256, event_dim, generator=generator)
    n = built.latent_dims[0]
    p, q = built.chain.condition(context)
    (z,), _ = built.chain.infer(q, x, (), generator)
    copy = built.chain.decode(p, (x[:, :n],)).mean
    assert (z - x[:, :n]).square().mean() < 0.2 and (copy - x)[:, :n].square().mean() < 0.2
    given = CVAE(2, event_dim, hidden=hidden, latent_dims=(n,))
    p, q = given.chain.condition(context)
    assert (given.chain.decode(p, (x[:, :n],)).mean - x)[:, :n].square().mean() > 0.5


def test_a_wide_event_is_not_explained_by_noise_alone() -> None:
    """Eight dimensions, two of them thin in a turned frame: as many latents as dimensions, from a
    common start, stay off; the default uses them within 100 steps."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    scale = torch.tensor([0.05, 0.05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    losses = []
    for options in ({}, {"latent_dims": (8,)}):
        torch.manual_seed(0)
        built = CVAE(1, 8, k=2, **options)
        optimiser = torch.optim.Adam(built.parameters(), lr=5e-3)
        for _ in range(100):
            x = (scale * torch.randn(64, 8, generator=generator)) @ turn
            loss = built.loss(torch.zeros(64, 1), x, diagnostics=False)[0].mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] < losses[1] - 1.0, losses


@pytest.mark.parametrize("latent_dims", [(3,), (3, 2), (3, 2, 2)])
def test_active_units_are_zero_for_an_encoder_that_ignores_x(latent_dims: tuple[int, ...]) -> None:
    """If q is the prior, the posterior mean moves with c only, and no unit counts as active."""
    built = cvae(latent_dims=latent_dims, prior="standard").double()
    with torch.no_grad():
        for layer in (*built.chain.recognition, *built.chain.generative[1:]):
            layer.net.leave.weight.zero_()
            layer.net.leave.bias.zero_()
    context, x = (t.double() for t in data(4000))
    found = built.active_units(context, x, samples=64, generator=torch.Generator().manual_seed(0))
    assert [found[f"active_units_{l}"].item() for l in range(1, len(latent_dims) + 1)] == [0] * len(
        latent_dims
    )


def test_active_units_see_an_encoder_that_copies_x() -> None:
    """Units whose posterior mean follows x count, the others do not."""
    built = cvae(latent_dims=(3,), prior="standard").double()

    class Copy(torch.nn.Module):
        def condition(self, context: Tensor) -> Tensor:
            return context

        def forward(self, parent: Tensor, conditioning: Tensor) -> DiagonalNormal:
            mean = torch.cat([parent, torch.zeros_like(parent[..., :1])], -1)
            return DiagonalNormal(mean, torch.zeros_like(mean))

    built.chain.recognition[0] = Copy()
    context, x = (t.double() for t in data(4000))
    assert built.active_units(context, x)["active_units_1"].item() == 2


def test_vae_k_and_elbo_share_their_value_and_iwae_is_tighter() -> None:
    """E vae-k = ELBO < IWAE-k, on the same data and parameters."""
    context, x = data(3000)
    found = {}
    for objective, k in (("elbo", 1), ("vae-k", 8), ("iwae-k", 8)):
        built = cvae(objective=objective, k=k, prior="gaussian", log_sigma_bounds=(-0.5, 0.5))
        loss, info = built.loss(context, x, generator=torch.Generator().manual_seed(1))
        found[objective] = loss.mean().item()
        assert info["elbo"].item() <= -loss.mean().item() + 1e-5
    assert found["vae-k"] == pytest.approx(found["elbo"], rel=0.03)
    assert found["iwae-k"] < found["elbo"] - 0.2


def test_kl_weight_weighs_what_the_latents_cost() -> None:
    """With one sample the loss is linear in the weight: reconstruction at 0, −ELBO at 1; what is
    reported stays the bound."""
    context, x = data()
    built = cvae(objective="elbo")

    def loss_and_info(weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        return built.loss(context, x, kl_weight=weight, generator=torch.Generator().manual_seed(1))

    (free, info), (half, _), (full, reported) = map(loss_and_info, (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, 0.5 * (free + full))
    assert (full - free).mean().item() == pytest.approx(reported["kl_layer_1"].item(), rel=1e-4)
    assert info["nll_bound"].item() == pytest.approx(full.mean().item(), rel=1e-5)
    assert info["elbo"].item() == pytest.approx(reported["elbo"].item(), rel=1e-5)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, False), (1.0, True)])
def test_latents_that_cost_nothing_teach_the_prior_nothing(weight: float, expected: bool) -> None:
    """At weight 0 only the decoder and the encoder learn, for the importance-weighted bound too."""
    context, x = data()
    built = cvae(objective="iwae-k", k=4)
    built.loss(context, x, kl_weight=weight)[0].sum().backward()
    prior = [p.grad for p in built.chain.prior.parameters()]
    assert any(g is not None and bool(g.any()) for g in prior) is expected


def test_frozen_density_samples_and_density_are_the_same_law() -> None:
    """The finite mixture integrates to one in 2-D and its samples follow it."""
    built = cvae(log_sigma_bounds=(-2.0, 0.0)).double()
    frozen = built.freeze(built.draw_codes(5, seed=1).double())
    context = torch.zeros(1, 2, dtype=torch.float64)
    axis = torch.linspace(-9.0, 9.0, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    value = frozen(context)
    p = value.log_prob(grid[:, None]).exp()[:, 0]
    cell = (axis[1] - axis[0]) ** 2
    assert (p.sum() * cell).item() == pytest.approx(1.0, abs=1e-3)
    samples = value.sample((20_000,), torch.Generator().manual_seed(0))[:, 0]
    expected = (torch.sin(grid.sum(-1)) * p).sum() * cell
    assert torch.sin(samples.sum(-1)).mean().item() == pytest.approx(expected.item(), abs=0.03)


def test_frozen_density_averages_to_the_marginal() -> None:
    """Over redrawn codes the mean of the mixture's density is p(x | c) itself."""
    built = cvae(log_sigma_bounds=(-1.0, 0.5)).double()
    context = torch.zeros(1, 2, dtype=torch.float64)
    x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    with torch.no_grad():
        small = torch.stack(
            [
                built.freeze(built.draw_codes(16, seed=s).double())(context).log_prob(x).exp()
                for s in range(300)
            ]
        )
        fine = built.freeze(built.draw_codes(8192, seed=999).double())(context).log_prob(x).exp()
    assert small.mean().item() == pytest.approx(fine.item(), rel=0.02)


def test_frozen_ratio_is_one_for_unchanged_parameters() -> None:
    """log π evaluated in a minibatch equals log π at collection to 1e-5, in float32."""
    built = Squashed(cvae())
    frozen = built.freeze(built.draw_codes(32, seed=4))
    context, _ = data(256)
    with torch.no_grad():
        actions = torch.cat([frozen(context[i : i + 1]).sample() for i in range(256)])
        old = torch.cat(
            [frozen(c[None]).log_prob(a[None]) for c, a in zip(context, actions, strict=True)]
        )
        order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
        for batch in order.split(64):
            new = frozen(context[batch]).log_prob(actions[batch])
            assert (torch.exp(new - old[batch]) - 1.0).abs().max() < 1e-5


def test_frozen_density_trains_decoder_and_prior() -> None:
    """Gradients of the frozen log-density reach decoder and prior, and not the recognition
    network."""
    built = cvae(prior_weights="equal")
    context, x = data()
    built.freeze(built.draw_codes(16, seed=0))(context).log_prob(x).sum().backward()
    for name, parameter in built.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached == ("recognition" not in name), name


def test_codes_are_marginally_standard() -> None:
    """Over scramblings each code is U[0, 1) × N(0, I)."""
    built = cvae(latent_dims=(2, 3))
    codes = torch.stack([built.draw_codes(16, seed=s) for s in range(400)])
    assert codes.shape == (400, 16, 6)
    first = codes[:, 0]
    assert first[:, 0].mean().item() == pytest.approx(0.5, abs=0.06)
    assert first[:, 1:].mean(0).abs().max() < 0.2
    assert (first[:, 1:].var(0) - 1.0).abs().max() < 0.3
    assert torch.equal(built.draw_codes(16, seed=3), built.draw_codes(16, seed=3))


def test_equal_prior_weights_stay_equal() -> None:
    """'equal' has no weights to learn, 'learned' has: the flag's two values differ."""
    equal, learned = (cvae(prior_weights=w).chain.prior for w in ("equal", "learned"))
    assert isinstance(equal, MixturePrior)
    assert isinstance(learned, MixturePrior)
    assert equal.logits is None
    assert learned.logits is not None
    context = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(equal(context).log_weights.exp(), torch.tensor(1 / 16))
    assert not torch.allclose(learned(context).log_weights.exp(), torch.tensor(1 / 16))


def test_cvae_keeps_both_modes_where_a_gaussian_cannot() -> None:
    """Two narrow modes at ±1: 250 steps bring the CVAE within 0.25 nats of the truth, a Gaussian
    not within 0.5."""

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sign = torch.randint(0, 2, (256, 1), generator=generator) * 2.0 - 1.0
        return torch.zeros(256, 1), sign + 0.2 * torch.randn(256, 1, generator=generator)

    truth = 0.5 * (1 + torch.log(torch.tensor(2 * torch.pi))) + torch.log(torch.tensor(0.4))
    gaps = {}
    for name, options in (("gaussian", {}), ("cvae", {"hidden": 16, "k": 4})):
        torch.manual_seed(1)
        built = make_density(name, context_dim=1, event_dim=1, **options)
        optimizer = torch.optim.Adam(built.parameters(), 5e-3)
        generator = torch.Generator().manual_seed(2)
        for _ in range(250):
            loss = built.loss(*batch(generator))[0].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        context, x = batch(generator)
        with torch.no_grad():
            nll = -built(context).log_prob_bounds(x, 200, generator=generator).lower.mean()
        gaps[name] = (nll - truth).item()
    assert gaps["gaussian"] > 0.5
    assert gaps["cvae"] < 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dims": ()}, r"latent_dims: got \(\), expected a non-empty list"),
        ({"latent_dims": (0,)}, "latent_dims: got"),
        ({"prior": "vamp"}, "prior: got 'vamp', expected one of standard, gaussian, mixture"),
        ({"objective": "iwae"}, "objective: got 'iwae', expected one of elbo, vae-k, iwae-k"),
        ({"objective": "elbo", "k": 5}, "k: got 5, objective 'elbo' takes 1 sample"),
        ({"k": 0}, "k: got 0, expected a whole number of at least 1"),
        ({"k": 2.5}, "k: got 2.5, expected a whole number"),
        ({"encoder_gradient": "reinforce"}, "encoder_gradient: got 'reinforce'"),
        ({"defensive": 1.5}, r"defensive: got 1.5, expected a number in \[0, 1\]"),
        ({"log_sigma_bounds": (2, -7)}, "log_sigma_bounds: got .* low < high"),
        (
            {"latent_dim": 3},
            "latent_dim: unknown option of density 'cvae', did you mean 'latent_dims'",
        ),
        ({"context_dim": 0}, "context_dim: got 0, expected a whole number of at least 1"),
        ({"prior_components": True}, "prior_components: got True"),
    ],
)
def test_illegal_options_get_one_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        cvae(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "cvae", "flow"])
@pytest.mark.parametrize(
    ("context", "message"),
    [
        (torch.full((3, 2), torch.nan), "context: 3 of 3 rows hold NaN or infinity"),
        (torch.tensor([[0.0, torch.inf], [0.0, 0.0]]), "context: 1 of 2 rows hold NaN or infinity"),
        (torch.zeros(3, 5), r"context: got shape \(3, 5\), expected \(\*batch, 2\)"),
        (torch.zeros(0, 2), r"context: got the empty shape \(0, 2\), expected at least one row"),
        (torch.tensor(1.0), r"context: got shape \(\), expected"),
        (
            torch.zeros(3, 2, dtype=torch.int64),
            "context: got torch.int64, expected a floating-point",
        ),
        ([[0.0, 0.0]], "context: got list, expected a floating-point torch.Tensor"),
    ],
)
def test_bad_contexts_get_one_line(name: str, context: Tensor, message: str) -> None:
    built = make_density(name, context_dim=2, event_dim=2)
    with pytest.raises((ValueError, TypeError), match=message):
        built(context)
    if isinstance(context, Tensor) and context.ndim:
        with pytest.raises((ValueError, TypeError), match=message.split(":")[0]):
            built.loss(context, torch.zeros(*context.shape[:-1], 2))


def test_a_single_context_without_batch_can_be_fitted() -> None:
    """Batch shape () is a legal *batch for every density, diagnostics included."""
    for latent_dims in ((2,), (2, 2)):
        loss, info = cvae(latent_dims=latent_dims).loss(torch.zeros(2), torch.zeros(2))
        assert loss.shape == ()
        assert info["active_units_1"].item() == 0


def test_squashed_entropy_is_not_cut_at_the_edge() -> None:
    """A wide Gaussian squashed to the box: the bounds agree with −E log p computed in u-space."""
    built = make_density(
        "gaussian", context_dim=1, event_dim=2, variance="fixed", sigma=7.0, squash=True
    )
    value = built(torch.zeros(1, 1))
    bounds = value.entropy_bounds(n=20_000, generator=torch.Generator().manual_seed(0))
    _, log_prob = value.rsample_and_log_prob(sample_shape=(20_000,))
    assert bounds.lower.item() == pytest.approx(-log_prob.mean().item(), abs=0.3)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "cvae", "flow"])
def test_bad_points_get_one_line(name: str) -> None:
    """Points of another type, shape or range are refused by value and loss alike."""
    built = make_density(name, context_dim=2, event_dim=2, squash=True)
    value, x = built(torch.zeros(5, 2)), torch.zeros(5, 2)
    for bad, message in (
        (x.double(), "x: got torch.float64, expected torch.float32"),
        (torch.zeros(7, 2), r"x: got shape \(7, 2\), expected \(\*sample_shape, 5, 2\)"),
        (x + 5.0, r"x: got a magnitude of 5, expected values in \[-1, 1\]"),
        (x + torch.nan, "x: 5 of 5 rows hold NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            value.log_prob_bounds(bad, 2)
    with pytest.raises(TypeError, match=r"context: got torch\.float64, expected torch\.float32"):
        built(torch.zeros(5, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"x: got batch shape \(1,\), context has \(5,\)"):
        built.loss(torch.zeros(5, 2), torch.zeros(1, 2))


def test_bad_events_get_one_line() -> None:
    built = cvae()
    with pytest.raises(ValueError, match="latents: got shapes"):
        built(torch.zeros(3, 2)).log_prob_bounds(torch.zeros(3, 2), 2, (torch.zeros(3, 1),))
    with pytest.raises(ValueError, match="encoder_gradient: got 'wake' with objective 'elbo'"):
        cvae(objective="elbo", encoder_gradient="wake")
    with pytest.raises(ValueError, match=r"x: got shape \(3, 1\), expected \(\*batch, 2\)"):
        built.loss(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"x: got batch shape \(4,\), context has \(3,\)"):
        built.loss(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="x: 1 of 3 rows hold NaN"):
        built.loss(torch.zeros(3, 2), torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="k: got 0, expected a whole number of at least 1"):
        built(torch.zeros(3, 2)).log_prob_bounds(torch.zeros(3, 2), 0)
