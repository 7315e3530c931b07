"""What a critic's outputs mean, and what its regression minimises.

N critics, B transitions, K outputs: ``(N, B, K)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Backup(NamedTuple):
    """What one step of the environment adds to a value."""

    rewards: Tensor
    """r ``(B, 1)``."""
    dones: Tensor
    """d ``(B, 1)``, 1 where the episode has ended."""
    discount: Tensor | float
    """γ, or γ^n of n-step returns ``(B, 1)``."""
    cost: Tensor
    """α log π(a' | s') ``(B, 1)``."""
    weights: Tensor | None = None
    """Factors on the losses of the transitions ``(B, 1)``, all 1 if not given."""

    def target(self, value: Tensor) -> Tensor:
        """y = r + γ (1 − d) (value − α log π(a' | s')), ``(B, K)`` for values ``(B, K)``.

        >>> one = torch.ones(1, 1)
        >>> Backup(one, 0.0 * one, 0.5, one).target(4.0 * one)
        tensor([[2.5000]])
        """
        return self.rewards + (1.0 - self.dones) * self.discount * (value - self.cost)


class ScalarHead(nn.Module):
    """One output, the value itself; the loss is ½ Σ_i mean_B w (Q_i(s, a) − y)²."""

    size = 1

    def value(self, outputs: Tensor) -> Tensor:
        """Q ``(N, B, 1)``."""
        return outputs

    def loss(self, now: Tensor, after: Tensor, backup: Backup) -> Tensor:
        """0-d, for outputs at (s, a) and at (s', a'); y takes the lowest Q(s', a')."""
        return critic_loss(now, backup.target(after.amin(0)), backup.weights)


class CategoricalHead(nn.Module):
    """Logits of K values evenly spaced over [−support, support] (Bellemare et al. 2017).

    The critic whose mean at (s', a') is the lowest gives the target of all: its values move to
    r + γ (1 − d) (z − α log π) and share their mass with their two neighbours on the grid. The loss
    is the cross-entropy, summed over critics.
    """

    atoms: Tensor

    def __init__(self, size: int, support: float) -> None:
        super().__init__()
        self.size, self.support = size, support
        self.register_buffer("atoms", torch.linspace(-support, support, size))

    def value(self, outputs: Tensor) -> Tensor:
        """Q ``(N, B, 1)``, the mean of the distribution."""
        return (torch.softmax(outputs, dim=-1) @ self.atoms).unsqueeze(-1)

    def loss(self, now: Tensor, after: Tensor, backup: Backup) -> Tensor:
        """0-d, for outputs at (s, a) and at (s', a')."""
        target = self.target(after, backup)
        losses = -(target * torch.log_softmax(now, dim=-1)).sum(-1, keepdim=True)
        return (losses if backup.weights is None else backup.weights * losses).mean(1).sum()

    def target(self, after: Tensor, backup: Backup) -> Tensor:
        """The shares of the values in the target ``(B, K)``.

        >>> head, one = CategoricalHead(3, 1.0), torch.ones(1, 1)
        >>> sure = torch.tensor([[[0.0, 99.0, 0.0]]])  # of value 0
        >>> head.target(sure, Backup(0.25 * one, 0.0 * one, 1.0, 0.0 * one)).round(decimals=4)
        tensor([[0.0000, 0.7500, 0.2500]])
        """
        shares = torch.softmax(after, dim=-1)
        lowest = (shares @ self.atoms).argmin(0)
        shares = shares[lowest, torch.arange(len(lowest), device=lowest.device)]
        moved = backup.target(self.atoms.expand_as(shares)).clamp(-self.support, self.support)
        place = (moved + self.support) * ((self.size - 1) / (2.0 * self.support))
        place = place.clamp(0, self.size - 1)  # rounding may leave the grid
        below = place.floor()
        right = place - below
        left_index = below.long()
        right_index = (left_index + 1).clamp_max(self.size - 1)
        target = torch.zeros_like(shares)
        target.scatter_add_(1, left_index, shares * (1.0 - right))
        return target.scatter_add_(1, right_index, shares * right)


def critic_loss(q: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """½ Σ_i mean_B w (Q_i(s, a) − y)² for q ``(N, B, 1)``, y and w ``(B, 1)``."""
    assert q.shape[1:] == target.shape, (q.shape, target.shape)
    squares = (q - target).square()
    return 0.5 * (squares if weights is None else weights * squares).mean((1, 2)).sum()
