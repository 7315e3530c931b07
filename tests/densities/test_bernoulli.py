"""Bernoulli laws: the same log-density and gradient as the plain formula, draws, and exact sums."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from vaerl.densities import IntractableError, bernoulli
from vaerl.densities.bernoulli import Bernoulli, BernoulliLayer, BernoulliPrior
from vaerl.densities.chain import LatentChain
from vaerl.densities.cvae import CVAE
from vaerl.densities.layers import GaussianPrior, NormalLayer


def plain(logits: Tensor, x: Tensor) -> Tensor:
    """Σ_d log Bernoulli by torch's own distribution."""
    law = torch.distributions.Bernoulli(logits=logits, validate_args=False)
    return law.log_prob(x).sum(-1)


@pytest.mark.parametrize("block", [4, 60, 1 << 17])
@pytest.mark.parametrize(("law", "event"), [((7, 5, 4), (5, 4)), ((4,), (3, 4)), ((4,), (4,))])
def test_log_density_and_gradients_are_those_of_the_plain_formula(
    law: tuple[int, ...], event: tuple[int, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values to rounding and gradients in float64, for x of any broadcast shape and any block."""
    monkeypatch.setattr(bernoulli, "BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    logits = 30.0 * torch.randn(law, generator=generator, dtype=torch.float64)
    x = torch.rand(event, generator=generator, dtype=torch.float64).round()
    found = Bernoulli(logits).log_prob(x)
    torch.testing.assert_close(found, plain(logits, x), rtol=1e-12, atol=1e-8)
    inputs = (logits.div(10.0).requires_grad_(), x.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda l, t: Bernoulli(l).log_prob(t), inputs)


def test_half_precision_logits_are_summed_in_float32() -> None:
    """A sum of 784 terms keeps what bfloat16 would lose; the gradient comes back in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 784, generator=generator).bfloat16().requires_grad_()
    x = torch.rand(3, 784, generator=generator).round()
    found = Bernoulli(logits).log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(logits.detach().float(), x), rtol=1e-6, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(
        gradient.float(), x - logits.detach().float().sigmoid(), rtol=0.01, atol=0.01
    )


def test_draws_have_the_mean_of_the_law_and_no_pathwise_gradient() -> None:
    """Frequencies agree with σ(logits); a draw that would be differentiated is refused."""
    logits = torch.tensor([-2.0, 0.0, 1.5], requires_grad=True)
    with torch.no_grad():
        draws = Bernoulli(logits).rsample((20_000,), torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    mean, sigma = Bernoulli(logits).detach().moments()
    assert ((draws.mean(0) - mean).abs() < 4.0 * sigma / 20_000**0.5).all()
    with pytest.raises(IntractableError, match="no pathwise gradient"):
        Bernoulli(logits).rsample()


def test_a_chain_of_binary_latents_is_bounded_by_its_exact_sum() -> None:
    """log p(x) = log Σ_z p(x, z) over all 2^5 paths; L_k rises to it, U_k falls to it."""
    torch.manual_seed(0)
    chain = LatentChain(
        BernoulliPrior(2),
        [BernoulliLayer(nn.Linear(3, 4), 4), BernoulliLayer(nn.Linear(2, 3), 3)],
        [BernoulliLayer(nn.Linear(4, 3), 3), BernoulliLayer(nn.Linear(3, 2), 2)],
    )
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.mul_(2.0)
    density = CVAE.from_chain(chain, context_dim=1, event_dim=4, latent_dims=(3, 2), defensive=0.0)
    context = torch.zeros(4000, 1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        value = density(context)
        x, latents = value.rsample_with_latents((), generator)
        exact = exact_log_prob(chain, x)
        one = value.log_prob_bounds(x, 1, latents, generator)
        many = value.log_prob_bounds(x, 64, latents, generator)
    assert one.upper is not None and many.upper is not None
    means = [each.mean().item() for each in (one.lower, many.lower, exact, many.upper, one.upper)]
    assert means == sorted(means)
    assert means[0] < means[2] - 0.05 and means[4] > means[2] + 0.05
    assert means[1] == pytest.approx(means[2], abs=0.02)


@pytest.mark.parametrize("binary", ["decoder", "prior"])
def test_codes_are_refused_where_a_layer_is_binary(binary: str) -> None:
    """A code holds normal noise, which a Bernoulli law cannot be placed by."""
    normal = {"hidden": 4, "blocks": 0, "log_sigma_bounds": (-2.0, 2.0)}
    if binary == "decoder":
        prior: nn.Module = GaussianPrior(1, 2)
        decoder: nn.Module = BernoulliLayer(nn.Linear(2, 3), 3)
    else:
        prior, decoder = BernoulliPrior(2), NormalLayer(2, 1, 3, **normal)
    chain = LatentChain(prior, [decoder], [NormalLayer(3, 1, 2, **normal)])
    density = CVAE.from_chain(chain, context_dim=1, event_dim=3, latent_dims=(2,))
    codes = density.draw_codes(4, seed=0)
    with pytest.raises(IntractableError, match="layers of normals, this one is Bernoulli"):
        density(torch.zeros(2, 1)).mode()
    with pytest.raises(IntractableError, match="layers of normals, this one is Bernoulli"):
        density.freeze(codes)(torch.zeros(2, 1)).log_prob(torch.zeros(2, 3))


def exact_log_prob(chain: LatentChain, x: Tensor) -> Tensor:
    p = chain.generate(torch.zeros(len(x), 1))
    terms = []
    for bits in product((0.0, 1.0), repeat=5):
        path = (torch.tensor(bits[:3]).expand(len(x), 3), torch.tensor(bits[3:]).expand(len(x), 2))
        terms.append(chain.decode(p, path).log_prob(x) + sum(chain.log_prior_layers(p, path)))
    return torch.logsumexp(torch.stack(terms), dim=0)
