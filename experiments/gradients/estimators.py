"""Estimators of the encoder's gradient, one surrogate each: what to differentiate for an ascent.

With log-weights log w_i of k paths z_i ~ q and ŵ their normalised weights:

    reinforce     (1/k) Σ log w_i ∇ log q(z_i)                                 of the ELBO
    leave-one-out (1/k) Σ (log w_i − mean_{j≠i} log w_j) ∇ log q(z_i)          of the ELBO
    pathwise      reparameterised total derivative of (1/k) Σ log w_i          of the ELBO
    vimco         Σ (L_k − L_k^{−i}) ∇ log q(z_i) − Σ ŵ_i ∇ log q(z_i)         of L_k
    total, dreg   reparameterised, see `vaerl.bounds.EncoderGradient`          of L_k
    stl, wake     the same; for k > 1 they follow other directions

L_k^{−i} has log w_i replaced by the mean of the others (Mnih & Rezende 2016). The reparameterised
ones are those of `CVAE.loss`; nothing is computed a second way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaerl import bounds
from vaerl.densities.chain import LatentChain, sum_layers
from vaerl.densities.cvae import CVAE
from vaerl.names import check_name

SCORE = ("reinforce", "leave-one-out", "vimco")
PATHWISE = {
    "pathwise": ("vae-k", "total"),
    "total": ("iwae-k", "total"),
    "stl": ("iwae-k", "stl"),
    "dreg": ("iwae-k", "dreg"),
    "wake": ("iwae-k", "wake"),
}
"""Objective and encoder gradient of `CVAE.loss`."""
ESTIMATORS = ("reinforce", "leave-one-out", "pathwise", "vimco", "total", "stl", "dreg", "wake")
ELBO = ("reinforce", "leave-one-out", "pathwise")
"""Unbiased for the gradient of the ELBO, whatever k."""
BOUND = ("vimco", "total", "dreg")
"""Unbiased for the gradient of L_k."""
NEEDS_TWO = ("leave-one-out", "vimco", "wake")
"""Estimators that compare samples: k of at least 2."""


def surrogate(
    density: CVAE, name: str, k: int, context: Tensor, x: Tensor, generator: torch.Generator
) -> Tensor:
    """A value ``batch`` whose gradient in the encoder's parameters is the estimate, each row its
    own.

    Raises ValueError for an unknown name, and for k = 1 where samples are compared.
    """
    check_name("estimator", name, ESTIMATORS)
    if k < 2 and name in NEEDS_TWO:
        raise ValueError(f"k: got {k}, expected at least 2 for {name!r}: it compares samples")
    if name in PATHWISE:
        density.objective, density.encoder_gradient = PATHWISE[name]
        density.k = k
        loss, _ = density.loss(context, x, diagnostics=False, generator=generator)
        return -loss
    log_p, log_q = sample_paths(density.chain, context, x, k, generator)
    return score_surrogate(name, log_p.detach(), log_q)


def sample_paths(
    chain: LatentChain, context: Tensor, x: Tensor, k: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """log p(x, z_i | c) and log q(z_i | x, c), each ``(k,) + batch``, of k paths held fixed.

    Both keep their gradient in the parameters; for any latents, binary ones too.
    """
    p, q = chain.generate(context), chain.recognise(context)
    with torch.no_grad():
        path, _ = chain.infer(q, x, (k,), generator)
    first_law = chain.recognition[0](x, q[0])
    log_q = sum_layers(chain.log_q_layers(q, first_law, path))
    log_p = chain.decode(p, path).log_prob(x) + sum_layers(chain.log_prior_layers(p, path))
    return log_p, log_q


def score_surrogate(name: str, log_p: Tensor, log_q: Tensor) -> Tensor:
    """The score-function surrogates, from the log-densities of fixed paths ``(k,) + batch``."""
    log_w = (log_p - log_q).detach()
    k = len(log_w)
    if name == "vimco":
        signal = bounds.iwae(log_w) - leave_one_out_bounds(log_w)
        return ((signal - bounds.normalised_weights(log_w)) * log_q).sum(0)
    if name == "leave-one-out":
        log_w = log_w - (log_w.sum(0) - log_w) / (k - 1)
    return (log_w * log_q).mean(0)


def leave_one_out_bounds(log_w: Tensor) -> Tensor:
    """L_k with log w_i replaced by the mean of the others, for each i: ``(k,) + batch``.

    >>> leave_one_out_bounds(torch.tensor([0.0, 2.0])).tolist()
    [2.0, 0.0]
    """
    k = len(log_w)
    others = (log_w.sum(0) - log_w) / (k - 1)
    swapped = log_w.unsqueeze(0).repeat(k, *(1,) * log_w.ndim)
    swapped[range(k), range(k)] = others
    return torch.logsumexp(swapped, dim=1) - math.log(k)
