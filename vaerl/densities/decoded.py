"""log (1/K) Σ_k p(x | z_k(c), c) over frozen codes of a one-layer CVAE, its gradient written out.

Autograd walks a hundred small operations each way for this, and takes several microseconds for each
of them. Here numpy does it in a few matrix products and passes over the hidden units. Everything
lies features first, ``(features, K, B)`` with the batch innermost: biases, FiLM coefficients and
sums over components then run along whole rows.

With E, U, D, L the weights of `FiLMNet` and f_0, γ, β its coefficients at c,

    h = E z + f_0,   a = U h = (U E) z + U f_0,   s = silu(γ a + β),   t = silu(h + D s),
    (μ, raw log σ) = L t

so U is multiplied with f_0, one column a context, and never with the K columns of h. Halves of
arguments are carried along, since silu(2v) = v (1 + tanh v).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vaerl.densities.layers import PRIOR_LOG_SIGMA, MixturePrior, NormalLayer
from vaerl.densities.normal import HALF_LOG_TWO_PI
from vaerl.nets import FiLMNet, smooth_range_terms

if TYPE_CHECKING:
    from vaerl.densities.chain import LatentChain

Array = np.ndarray
Terms = tuple[float, float, float, float]
PRIOR_TERMS = smooth_range_terms(*PRIOR_LOG_SIGMA)


def knows(chain: LatentChain) -> bool:
    """Whether the chain is made of parts that `code_density` works out, unwatched, on a
    processor."""
    layers: Any = chain.generative
    prior, context = chain.prior, chain.generative_context
    return (
        len(layers) == 1
        and type(layers[0]) is NormalLayer
        and type(layers[0].net) is FiLMNet
        and layers[0].net.blocks == 1
        and type(prior) is MixturePrior
        and prior.logits is None
        and (type(context) is nn.Identity or (type(context) is nn.Sequential and not len(context)))
        and all(
            type(part) is nn.Linear and not part._forward_hooks and not part._forward_pre_hooks
            for part in _parts(chain)
        )
        and prior.head.weight.device.type == "cpu"
        and prior.head.weight.dtype in (torch.float32, torch.float64)
    )


def _parts(chain: Any) -> tuple[nn.Linear, ...]:
    net = chain.generative[0].net
    return (chain.prior.head, net.film, net.enter, net.up[0], net.down[0], net.leave)


def code_density(chain: LatentChain, codes: Tensor, context: Tensor, x: Tensor) -> Tensor:
    """log (1/K) Σ_k N(x; μ(z_k, c), diag σ(z_k, c)²) ``(B,)``, in nats.

    Args:
        chain: for which `knows` holds.
        codes: ε_k, ``(K, 1 + Z)``: what picks the prior's component, then the noise in it.
        context: ``(B, C)``.
        x: points ``(B, X)``.

    >>> from vaerl.densities import make_density
    >>> options = {"prior_weights": "equal", "blocks": 1, "context_hidden": ()}
    >>> density = make_density("cvae", context_dim=3, event_dim=2, **options)
    >>> code_density(density.chain, torch.zeros(4, 4), torch.zeros(5, 3), torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    layer: Any = chain.generative[0]
    prior: Any = chain.prior
    weights = [tensor for part in _parts(chain) for tensor in (part.weight, part.bias)]
    # Components are picked by a product with zeros and ones: indexing is slow backward.
    above = (codes[:, :1] >= _starts(prior.components).to(codes)).to(context)
    pick = above[:, :-1] - above[:, 1:]
    terms = smooth_range_terms(*layer.log_sigma_bounds)
    return _CodeDensity.apply(terms, pick, codes[:, 1:], x, context, *weights)


@lru_cache(maxsize=16)
def _starts(components: int) -> Tensor:
    """Where the share of each component in [0, 1) starts, as `NormalMixture` has it, and ∞."""
    ends = torch.full((components,), -math.log(components)).exp().cumsum(0)
    return torch.cat([ends.new_zeros(1), ends[:-1], ends.new_full((1,), torch.inf)])


class _CodeDensity(torch.autograd.Function):
    """Forward as in `MixturePrior`, `FiLMNet`, `NormalLayer` and `NormalMixture`; backward by the
    chain rule. d_y is the slope in y of Σ_b grad_b · output_b."""

    @staticmethod
    @np.errstate(all="ignore")  # as torch does
    def forward(ctx: Any, terms: Terms, *inputs: Tensor) -> Tensor:
        pick, noise, x, context, *weights = (tensor.detach().numpy() for tensor in inputs)
        head, head_bias, film, film_bias, enter, enter_bias, *block, leave, leave_bias = weights
        up, up_bias, down, down_bias = block
        (count, components), width, batch = pick.shape, len(enter), len(context)

        prior = (_product(head, context.T) + head_bias[:, None]).reshape(2, components, -1)
        log_sigma, prior_gate = _range(prior[1], PRIOR_TERMS)
        np.exp(log_sigma, out=prior[1])
        mean, sigma = _product(pick, prior).reshape(2, count, -1, batch)
        z = (mean + sigma * noise[:, :, None]).swapaxes(0, 1).reshape(noise.shape[1], -1)

        parts = _product(film, context.T) + film_bias[:, None]
        parts[:width] += enter_bias[:, None]
        first, (scale, shift) = parts[:width], 0.5 * parts[width:].reshape(2, width, batch)
        both = np.concatenate([0.5 * enter, _product(up, enter)])
        start = np.concatenate(
            [0.5 * (first + down_bias[:, None]), _product(up, first) + up_bias[:, None]]
        )
        h, a = _codes(_product(both, z), batch, start).reshape(2, width, count, batch)
        y = a * scale[:, None]
        y += shift[:, None]
        s, gate_s = _silu(y)
        v = _product(0.5 * down, s.reshape(width, -1))
        v += h.reshape(width, -1)
        t, gate_t = _silu(v)
        out = _product(leave, t)
        out += leave_bias[:, None]
        out = out.reshape(2, -1, count, batch)

        log_sigma, gate = _range(out[1], terms)
        precision = np.exp(-log_sigma)
        miss = x.T[:, None] - out[0]
        miss *= precision
        nats = (-0.5 * (miss * miss) - log_sigma).sum(0)
        highest = nats.max(0)
        weight = np.exp(nats - highest)
        total = weight.sum(0)
        weight /= total
        kept = (prior, prior_gate, z, first, scale, both, a, y, s, gate_s, v, t, gate_t)
        last = (gate, precision, miss, weight)
        ctx.save_for_backward(*inputs, *(torch.from_numpy(array) for array in (*kept, *last)))
        ctx.terms = terms
        constant = math.log(count) + x.shape[1] * HALF_LOG_TWO_PI
        return torch.from_numpy(highest + np.log(total) - constant)

    @staticmethod
    @once_differentiable
    @np.errstate(all="ignore")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pick, noise, _, context, *rest = (tensor.detach().numpy() for tensor in ctx.saved_tensors)
        head, _, film, _, enter, _, up, _, down, _, leave, _, *rest = rest
        prior, prior_gate, z, first, scale, both, a, y, s, gate_s, v, t, gate_t, *rest = rest
        gate, precision, miss, weight = rest
        (count, batch), width = weight.shape, len(enter)

        d_nats = weight * grad.numpy()
        d_out = np.empty((2, *miss.shape), miss.dtype)
        np.multiply(miss, precision, out=d_out[0])
        np.multiply(miss, miss, out=d_out[1])
        d_out[1] -= 1.0
        d_out[1] *= _slope(gate, ctx.terms)
        d_out *= d_nats
        d_x = torch.from_numpy(-d_out[0].sum(1).T) if ctx.needs_input_grad[3] else None
        d_out = d_out.reshape(len(leave), -1)
        d_leave, d_leave_bias = _product(d_out, t.T), d_out.sum(1)

        d_both = np.empty((2, width, count, batch), miss.dtype)  # in 2v, and in a
        d_v = d_both[0].reshape(width, -1)
        np.multiply(_silu_slope(v, gate_t), _product(0.5 * leave.T, d_out), out=d_v)
        d_down = _product(d_v, s.reshape(width, -1).T)
        d_y = _silu_slope(y, gate_s)
        d_y *= _product(0.5 * down.T, d_v).reshape(a.shape)  # half of it
        np.multiply(d_y, a, out=d_both[1])
        d_scale, d_shift = _sum_over_codes(d_both[1]), _sum_over_codes(d_y)
        np.multiply(d_y, 2.0 * scale[:, None], out=d_both[1])

        d_v_sum, d_a_sum = _sum_over_codes(d_both[0]), 2.0 * scale * d_shift
        d_first = d_v_sum + _product(up.T, d_a_sum)
        d_both = d_both.reshape(2 * width, -1)
        in_h, in_a = _product(d_both, z.T).reshape(2, width, -1)
        d_enter = in_h + _product(up.T, in_a)
        d_up = _product(in_a, enter.T) + _product(d_a_sum, first.T)
        d_film = np.concatenate([d_first, d_scale, d_shift])

        both = np.concatenate([enter, both[width:]])
        d_picked = np.empty((2, count, len(z), batch), miss.dtype)  # in the means, and in the σ
        d_picked[0] = _product(both.T, d_both).reshape(-1, count, batch).swapaxes(0, 1)
        np.multiply(d_picked[0], noise[:, :, None], out=d_picked[1])
        d_prior = _product(pick.T, d_picked.reshape(2, count, -1))
        d_prior[1] *= prior[1] * _slope(prior_gate, PRIOR_TERMS)
        d_prior = d_prior.reshape(-1, batch)
        d_context = _product(d_prior.T, head) + _product(d_film.T, film)
        slopes = (
            *(_product(d_prior, context), d_prior.sum(1), _product(d_film, context), d_film.sum(1)),
            *(d_enter, d_first.sum(1), d_up, d_a_sum.sum(1), d_down, d_v_sum.sum(1)),
            *(d_leave, d_leave_bias),
        )
        return (
            *(None, None, None, d_x, torch.from_numpy(d_context)),
            *(torch.from_numpy(slope) for slope in slopes),
        )


def _product(a: Array, b: Array) -> Array:
    """a @ b: numpy's is the faster one, but its threads would fight torch's for the cores."""
    if torch.get_num_threads() == 1:
        return a @ b
    return torch.matmul(torch.from_numpy(a), torch.from_numpy(b)).numpy()


def _codes(h: Array, batch: int, start: Array) -> Array:
    """h ``(F, K·B)`` plus what is the same for all codes, ``(F, B)``."""
    h = h.reshape(len(h), -1, batch)
    h += start[:, None]
    return h


def _sum_over_codes(h: Array) -> Array:
    """``(F, B)`` of ``(F, K, B)``; torch adds up a middle dimension three times as fast."""
    return torch.from_numpy(h).sum(1).numpy()


def _silu(v: Array) -> tuple[Array, Array]:
    """silu(2v) = v (1 + tanh v), and the second factor."""
    gate = np.tanh(v)
    gate += 1.0
    return v * gate, gate


def _silu_slope(v: Array, gate: Array) -> Array:
    """Derivative of v (1 + tanh v) in v."""
    slope = 2.0 - gate
    slope *= v
    slope += 1.0
    slope *= gate
    return slope


def _range(raw: Array, terms: Terms) -> tuple[Array, Array]:
    """log σ = share · span + low as tanh · span/2 + middle, which rounds less, and the tanh."""
    slope, offset, span, low = terms
    gate = np.tanh(raw * (0.5 * slope) + 0.5 * offset)
    return gate * (0.5 * span) + (low + 0.5 * span), gate


def _slope(gate: Array, terms: Terms) -> Array:
    """Derivative of log σ in its raw value."""
    return (0.25 * terms[0] * terms[2]) * (1.0 - gate * gate)
