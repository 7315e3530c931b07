"""A latent held through several steps: p(x_t | c_t, ε) given its codes, and their joint density.

Codes ε are the uniform number and the noise that a path z(c; ε) is a function of; they are drawn
once while the contexts c_1, …, c_T go by. Given ε the events are independent and each density is
exact. Without it,

    p(x_1, …, x_T | c_1, …, c_T) = E_ε Π_t p(x_t | c_t, ε),

which is not the product of the marginals: the first event tells which mode comes next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaerl import bounds
from vaerl.densities.base import Bounds, ConditionalDensity, check_matrix
from vaerl.densities.noise import Noise, code_noise
from vaerl.densities.options import check_positive


def draw_held_codes(
    density: ConditionalDensity, shape: tuple[int, ...], generator: Noise = None
) -> Tensor:
    """Independent codes ``shape + (code_dim,)``: U[0, 1) for the prior's component, then N(0, I).

    Unlike those of `draw_codes`, they are not spread evenly.

    >>> from vaerl.densities import make_density
    >>> cvae = make_density("cvae", context_dim=3, event_dim=2)
    >>> value = cvae.value_given_codes(torch.zeros(5, 3), draw_held_codes(cvae, (5,)))
    >>> value.exact, value.log_prob(value.rsample()).shape
    (True, torch.Size([5]))
    """
    return code_noise(shape, density.code_dim - 1, next(density.parameters()), generator)


def held_log_prob_bounds(
    density: ConditionalDensity,
    contexts: Tensor,
    x: Tensor,
    k: int = 256,
    codes: Tensor | None = None,
    generator: Noise = None,
) -> Bounds:
    """L_k ≤ log p(x_1, …, x_T | c_1, …, c_T) ≤ U_k in expectation, for one latent held throughout.

    The k codes come from their prior, so the bounds are tight only if some of them decode close to
    x; long sequences of narrow actions need a larger k.

    Args:
        density: one with latent codes, whose decoder is normal.
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
            density.value_given_codes(c.expand(len(drawn), *c.shape), drawn).log_prob(
                e.expand(len(drawn), *e.shape)
            )
            for c, e in zip(contexts, x, strict=True)
        ]
    ).sum(0)
    assert log_w.shape == (k + (codes is not None), batch), (log_w.shape, x.shape)
    if codes is None:
        return Bounds(bounds.iwae(log_w), None)
    return Bounds(bounds.iwae(log_w[1:]), bounds.upper_bound(log_w[0], log_w[1:]))
