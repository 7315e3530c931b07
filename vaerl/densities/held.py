"""A latent held through several steps: p(x_t | c_t, ε) given its codes, and their joint density.

Codes ε are the uniform number and the noise that a path z(c; ε) is a function of; they are drawn
once while the contexts c_1, …, c_T go by. Given ε the events are independent and each density is
exact. Without it,

    p(x_1, …, x_T | c_1, …, c_T) = E_ε Π_t p(x_t | c_t, ε),

which is not the product of the marginals: what was drawn first says which mode comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaerl import bounds
from vaerl.densities.base import Bounds, ConditionalValue, check_matrix
from vaerl.densities.gaussian import GaussianValue
from vaerl.densities.noise import standard_normal, uniform
from vaerl.densities.options import check_positive
from vaerl.densities.squash import SquashedValue

if TYPE_CHECKING:
    from vaerl.densities.cvae import CVAE


def draw_held_codes(
    density: CVAE, shape: tuple[int, ...], generator: torch.Generator | None = None
) -> Tensor:
    """Independent codes ``shape + (code_dim,)``: U[0, 1) for the prior's component, then N(0, I).

    Unlike `CVAE.draw_codes` they are not spread over each other: each is a draw of its own.
    """
    like = next(density.parameters())
    size = density.code_dim - 1
    u = uniform((*shape, 1), like, generator)
    return torch.cat((u, standard_normal((*shape, size), like, generator)), dim=-1)


def value_given_codes(density: CVAE, context: Tensor, codes: Tensor) -> ConditionalValue:
    """p(x | c, ε): a normal, squashed where the density is, so its log-density is exact.

    Args:
        density: a CVAE whose decoder is normal.
        context: ``batch + (C,)``.
        codes: one for each context, ``batch + (code_dim,)``.

    >>> from vaerl.densities import make_density
    >>> cvae = make_density("cvae", context_dim=3, event_dim=2)
    >>> codes = draw_held_codes(cvae, (5,))
    >>> value = value_given_codes(cvae, torch.zeros(5, 3), codes)
    >>> value.exact, value.log_prob(value.rsample()).shape
    (True, torch.Size([5]))
    """
    context = check_matrix("context", context, density.context_dim)
    codes = check_matrix("codes", codes, density.code_dim)
    if codes.shape[:-1] != context.shape[:-1]:
        raise ValueError(
            f"codes: got shape {tuple(codes.shape)}, expected one for each context of shape "
            f"{tuple(context.shape)}"
        )
    chain = density.chain
    p = chain.generate(context)
    noise = codes[..., 1:].split(list(density.latent_dims), dim=-1)
    value = GaussianValue(chain.decode(p, chain.place(p, codes[..., 0], noise)))
    return SquashedValue(value) if density.squash else value


def held_log_prob_bounds(
    density: CVAE,
    contexts: Tensor,
    x: Tensor,
    k: int = 256,
    codes: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Bounds:
    """L_k ≤ log p(x_1, …, x_T | c_1, …, c_T) ≤ U_k in expectation, for one latent held throughout.

    k codes are drawn from their prior, so the bounds are tight while k reaches into the modes that
    x tells apart; over many steps of narrow actions k has to grow.

    Args:
        density: a CVAE whose decoder is normal.
        contexts: ``(T, B, C)``.
        x: events ``(T, B, X)``.
        k: codes drawn.
        codes: those that x was drawn with, ``(B, code_dim)``; without them U_k is None.

    Raises:
        ValueError: shapes that do not fit, k below 1.
    """
    check_positive("k", k)
    if contexts.ndim != 3 or x.shape[:-1] != contexts.shape[:-1]:
        raise ValueError(
            f"x: got shape {tuple(x.shape)} with contexts {tuple(contexts.shape)}, expected "
            "(T, B, X) and (T, B, C)"
        )
    batch = contexts.shape[1]
    drawn = draw_held_codes(density, (k, batch), generator)
    if codes is not None:
        own = check_matrix("codes", codes, density.code_dim).expand(1, batch, -1)
        drawn = torch.cat((own, drawn))
    log_w = torch.stack(
        [
            value_given_codes(density, c.expand(len(drawn), *c.shape), drawn).log_prob(
                e.expand(len(drawn), *e.shape)
            )
            for c, e in zip(contexts, x, strict=True)
        ]
    ).sum(0)
    assert log_w.shape == (k + (codes is not None), batch), (log_w.shape, x.shape)
    if codes is None:
        return Bounds(bounds.iwae(log_w), None)
    return Bounds(bounds.iwae(log_w[1:]), bounds.upper_bound(log_w[0], log_w[1:]))
