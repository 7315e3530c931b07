"""Bounds on log p(x | c) and their gradients: pure functions of importance log-weights.

A log-weight belongs to one whole latent path z = (h_1, …, h_L):
log w = log p(x, z | c) − log q(z | x, c). Samples run along dimension 0 and values are in nats. The
functions do not depend on the number of stochastic layers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def elbo(log_w: Tensor) -> Tensor:
    """Evidence lower bound, mean_i log w_i ≤ log p; gap KL(q ‖ posterior) (Kingma & Welling 2014).

    Its expectation is the same for every k, so it is the k-sample VAE objective too.
    """
    return log_w.mean(0)


def iwae(log_w: Tensor) -> Tensor:
    """Importance-weighted lower bound L_k = log (1/k) Σ_i w_i (Burda et al. 2016).

    Its expectation rises with k. Its gradient with respect to log w is the normalised weights.

    >>> iwae(torch.log(torch.tensor([1.0, 3.0]))).exp()
    tensor(2.)
    """
    return torch.logsumexp(log_w, dim=0) - math.log(log_w.shape[0])


def upper_bound(log_w_generating: Tensor, log_w: Tensor) -> Tensor:
    """Upper bound U_k = log 1/(k+1) (w_0 + Σ_{i=1}^k w_i) ≥ log p in expectation, falling with k.

    `log_w_generating` ``batch`` is the log-weight of the path that generated x, an exact posterior
    sample; `log_w` ``(k,) + batch`` are those of k independent proposals, k = 0 included (Sobolev &
    Vetrov 2019).
    """
    return iwae(torch.cat([log_w_generating.unsqueeze(0), log_w]))


def normalised_weights(log_w: Tensor) -> Tensor:
    """softmax_i(log w_i), without gradient."""
    return torch.softmax(log_w.detach(), dim=0)


def effective_sample_size(log_w: Tensor) -> Tensor:
    """1 / Σ_i ŵ_i² of the normalised weights, between 1 and k."""
    return 1.0 / normalised_weights(log_w).square().sum(0)


def delta_corrected(log_w: Tensor) -> Tensor:
    """L_k + Var(w) / (2 k w̄²): an estimate of log p, **not** a bound (Nowozin 2018)."""
    k = log_w.shape[0]
    if k < 2:
        raise ValueError(f"log_w: got {k} sample, expected at least 2")
    ratio = torch.exp(log_w - iwae(log_w))
    return iwae(log_w) + ratio.var(0) / (2.0 * k)


def jackknife(log_w: Tensor) -> Tensor:
    """k L_k − (k−1) mean L_{k−1}, leaving one out: an estimate, **not** a bound (Nowozin 2018)."""
    k = log_w.shape[0]
    if k < 2:
        raise ValueError(f"log_w: got {k} sample, expected at least 2")
    share = torch.softmax(log_w, dim=0).clamp_max(1.0 - 1e-7)
    total = torch.logsumexp(log_w, dim=0)
    leave_one_out = total + torch.log1p(-share) - math.log(k - 1)
    return k * iwae(log_w) - (k - 1) * leave_one_out.mean(0)


def defensive_log_density(log_prior: Tensor, log_q: Tensor, prior_share: float) -> Tensor:
    """log r = log(λ p(z | c) + (1−λ) q(z | x, c)), so that every weight is at most p(x | z, c)/λ.

    If the encoder has lighter tails than the posterior, w_0 has heavy tails; the prior share λ
    prevents that.
    """
    if prior_share == 0.0:
        return log_q
    if prior_share == 1.0:
        return log_prior
    return torch.logaddexp(log_prior + math.log(prior_share), log_q + math.log1p(-prior_share))


def kl_per_layer(log_q: list[Tensor], log_p: list[Tensor]) -> list[Tensor]:
    """Rate split R_l = E_q[log q(h_l | h_{l−1}, c) − log p(h_l | h_{l+1}, c)], 0-d, per layer.

    The sum is KL(q(z | x, c) ‖ p(z | c)) ≥ 0. A single R_l with l < L can be negative: it is a
    diagnostic, not a distance. Lists run over layers, h_1 first.
    """
    assert len(log_q) == len(log_p), (len(log_q), len(log_p))
    return [(q - p).mean() for q, p in zip(log_q, log_p, strict=True)]


def active_units(deviation_a: Tensor, deviation_b: Tensor, threshold: float = 0.01) -> Tensor:
    """Number of units u whose activity A_u = Var[(μ_q,u − μ_p,u) / σ_p,u] exceeds `threshold`.

    The deviations ``(n, d)`` are two independent unbiased estimates of (μ_q,u(x, c) − μ_p,u(c)) /
    σ_p,u(c) for n pairs (x, c); pass the same tensor twice if it is exact. Their covariance
    estimates the variance without bias from Monte-Carlo noise. Deviations from zero instead of the
    prior give the A_u of Burda et al. 2016.
    """
    a = deviation_a - deviation_a.mean(0)
    b = deviation_b - deviation_b.mean(0)
    return ((a * b).mean(0) > threshold).sum()


class EncoderGradient:
    """Turns −L_k, evaluated on `leaves`, into the chosen gradient of the recognition network.

    Let g_i = (∂ log w_i/∂z_i)(dz_i/dφ) at fixed parameters of q, and ŵ_i the normalised weights.
    The estimators differ only in the coefficient of g_i:

    ========  ==============  =========================================================
    dreg      Σ ŵ_i² g_i       unbiased for ∇φ L_k (Tucker et al. 2019)
    stl       Σ ŵ_i g_i        ∇φ L_k plus the wake direction (Roeder et al. 2017)
    wake      Σ (ŵ_i − ŵ_i²) g_i   reweighted wake-sleep, doubly reparameterised
    ========  ==============  =========================================================

    The path keeps its graph. `leaves` returns it unchanged but scales the gradient that comes back
    into each layer **once**, before it flows through the sampling path. This is correct for any
    number of layers; a hook on the layers themselves would scale the path through lower layers
    repeatedly.
    """

    NAMES = ("dreg", "stl", "wake", "total")

    def __init__(self, name: str) -> None:
        assert name in self.NAMES, (name, self.NAMES)
        self.name = name
        self._coefficient: Tensor | None = None

    def leaves(self, path: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The path with the gradient scaling attached (nothing for `total` and `stl`)."""
        if self.name in ("total", "stl"):
            return path
        return tuple(_ScaledGradient.apply(h, self) for h in path)

    def set_weights(self, log_w: Tensor) -> None:
        """Set the coefficient from the log-weights ``(k,) + batch``; call this before backward."""
        weights = normalised_weights(log_w)
        self._coefficient = weights if self.name == "dreg" else 1.0 - weights

    @property
    def coefficient(self) -> Tensor:
        """The factor on the gradient of each sample, ``(k,) + batch``."""
        assert self._coefficient is not None, "set_weights was not called before backward"
        return self._coefficient


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, owner: EncoderGradient) -> Tensor:
        ctx.owner = owner
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.owner.coefficient.unsqueeze(-1), None
