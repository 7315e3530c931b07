"""The value of a plan from its particles' returns: their mean, or the mean of the worst."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from vaerl.densities.options import check_above_zero

OBJECTIVES = ("mean", "cvar")


def cvar(returns: Tensor, alpha: float) -> Tensor:
    """Conditional value at risk: the mean of the worst share α of the last dimension.

    Where αP is not a whole number, the last particle counts in part. CVaR_1 is the mean, and CVaR_α
    rises with α (Rockafellar & Uryasev 2000). NaN where a particle is NaN.

    Raises ValueError for α outside (0, 1], and for no particles.

    >>> cvar(torch.tensor([4.0, 0.0, 1.0, 3.0]), 0.5)
    tensor(0.5000)
    """
    check_above_zero("alpha", alpha, 1.0)
    if not isinstance(returns, Tensor) or not returns.ndim or not returns.shape[-1]:
        shown = tuple(returns.shape) if isinstance(returns, Tensor) else type(returns).__name__
        raise ValueError(f"returns: got {shown}, expected a torch.Tensor (…, P) with P >= 1")
    count = returns.shape[-1]
    share = alpha * count
    whole = min(math.floor(share + 1e-9), count)
    worst = returns.sort(-1).values
    total = worst[..., :whole].sum(-1)
    if share - whole > 1e-9:
        total = total + (share - whole) * worst[..., whole]
    return torch.where(worst[..., -1].isnan(), torch.nan, total / share)  # NaN is sorted last


def cvar_variance(returns: Tensor, alpha: float) -> Tensor:
    """Estimated variance of `cvar` over other draws of the P particles; 0 for one particle.

    The jackknife: (P − 1) times the variance of the P values without one particle each, on average
    no less than the variance itself (Efron & Stein 1981). Of a mean it is s² / P.
    """
    count = returns.shape[-1] - 1
    if not count:
        return returns.new_zeros(returns.shape[:-1])
    worst = returns.sort(-1).values
    share = alpha * count
    weights = (share - torch.arange(count).to(worst)).clamp(0.0, 1.0) / share
    before = (weights * worst[..., :-1]).cumsum(-1)  # particles up to the one left out
    after = (weights * worst[..., 1:]).flip(-1).cumsum(-1).flip(-1)
    without = functional.pad(before, (1, 0)) + functional.pad(after, (0, 1))
    return count * without.var(-1, correction=0)


def worth(returns: Tensor, objective: str, alpha: float) -> Tensor:
    """Value of each plan from the returns ``(…, P)`` of its particles; NaN counts as −∞."""
    value = returns.mean(-1) if objective == "mean" else cvar(returns, alpha)
    return torch.where(torch.isnan(value), -torch.inf, value)
