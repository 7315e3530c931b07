"""The losses of soft actor-critic (Haarnoja et al. 2018) as pure functions of tensors.

B transitions, N critics. log π stands for whatever the density hands out: exact, or the upper
bound U_k of a latent density, whose negative is a lower bound on the entropy; the same side is
used in all four places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Info = dict[str, Tensor]


def soft_target(
    reward: Tensor,
    done: Tensor,
    discount: Tensor | float,
    next_q: Tensor,
    next_log_prob: Tensor,
    alpha: Tensor,
) -> Tensor:
    """y = r + γ (1 − d) (min_i Q̄_i(s', a') − α log π(a' | s')), ``(B, 1)``.

    Args:
        reward, done: ``(B, 1)``; discount: γ, or γ^n of n-step returns ``(B, 1)``.
        next_q: the target critics' values at a' ~ π(s'), ``(N, B, 1)``.
        next_log_prob: log π(a' | s') ``(B,)``, in nats.
        alpha: temperature, 0-d or ``(1,)``.

    >>> one = torch.ones(1)
    >>> soft_target(one[None], 0.0 * one[None], 0.5, torch.full((2, 1, 1), 4.0), one, one)
    tensor([[2.5000]])
    """
    soft_value = next_q.amin(0) - alpha * next_log_prob.unsqueeze(-1)
    return reward + (1.0 - done) * discount * soft_value


def critic_loss(q: Tensor, target: Tensor) -> tuple[Tensor, Info]:
    """½ Σ_i mean_B (Q_i(s, a) − y)² for q ``(N, B, 1)`` and target ``(B, 1)``."""
    assert q.shape[1:] == target.shape, (q.shape, target.shape)
    loss = 0.5 * (q - target).square().mean((1, 2)).sum()
    return loss, {"critic_loss": loss.detach()}


def actor_loss(
    q: Tensor, slope: Tensor, actions: Tensor, log_prob: Tensor, alpha: Tensor
) -> tuple[Tensor, Info]:
    """mean_B (α log π(a | s) − min_i Q_i(s, a)) at own actions.

    Q enters as its value and slope at those actions, so its gradient is what autograd would find.

    Args:
        q: min_i Q_i(s, a) ``(B,)``; slope: its derivative in a ``(B, X)``; both without gradient.
        actions: a ~ π(s) ``(B, X)``, reparameterised; log_prob: ``(B,)``, in nats.
        alpha: temperature, 0-d or ``(1,)``.
    """
    assert q.shape == log_prob.shape == actions.shape[:1], (q.shape, log_prob.shape, actions.shape)
    value = q + (slope * (actions - actions.detach())).sum(-1)
    loss = (alpha * log_prob - value).mean()
    return loss, {"actor_loss": loss.detach(), "entropy_lower": -log_prob.detach().mean()}


def temperature_loss(
    log_alpha: Tensor, log_prob: Tensor, target_entropy: float
) -> tuple[Tensor, Info]:
    """−mean_B log α (log π(a | s) + H̄): α rises where the entropy lies below the target H̄."""
    loss = -(log_alpha * (log_prob.detach() + target_entropy).mean()).sum()
    return loss, {"ent_coef_loss": loss.detach()}


@torch.no_grad()
def polyak_(target: Sequence[Tensor], source: Sequence[Tensor], tau: float) -> None:
    """target ← target + τ (source − target), all tensors in one pass."""
    if target:
        torch._foreach_lerp_(list(target), list(source), tau)
