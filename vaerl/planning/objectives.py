"""The value of a plan from its particles' returns: their mean, or the mean of the worst."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaerl.densities.options import check_above_zero

OBJECTIVES = ("mean", "cvar")


def cvar(returns: Tensor, alpha: float) -> Tensor:
    """Conditional value at risk: the mean of the worst share α of the last dimension.

    Where αP is not a whole number, the last particle counts in part. CVaR_1 is the mean, and CVaR_α
    rises with α (Rockafellar & Uryasev 2000).

    >>> cvar(torch.tensor([4.0, 0.0, 1.0, 3.0]), 0.5)
    tensor(0.5000)
    """
    check_above_zero("alpha", alpha, 1.0)
    count = returns.shape[-1]
    share = alpha * count
    whole = min(math.floor(share + 1e-9), count)
    worst = returns.sort(-1).values
    total = worst[..., :whole].sum(-1)
    if share - whole > 1e-9:
        total = total + (share - whole) * worst[..., whole]
    return total / share


def worth(returns: Tensor, objective: str, alpha: float) -> Tensor:
    """Value of each plan from the returns ``(…, P)`` of its particles; NaN counts as −∞."""
    value = returns.mean(-1) if objective == "mean" else cvar(returns, alpha)
    return torch.where(torch.isnan(value), -torch.inf, value)
