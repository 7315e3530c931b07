"""The critics of SAC's update: their regression, the lowest value, and its slope."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor


class Critics:
    """N critics of any kind, differentiated by autograd.

    SAC reaches its critics through these three calls alone, so a faster form needs no more than
    them. B states, X action dimensions.

    Args:
        critic: SB3's module, whose parameters are used and updated in place.
    """

    def __init__(self, critic: ContinuousCritic) -> None:
        self.critic = critic

    def regress(self, obs: Any, actions: Tensor, target: Tensor) -> Tensor:
        """Write the gradient of `critic_loss` into the parameters; returns the loss, 0-d.

        Args:
            actions: a ``(B, X)``; target: y ``(B, 1)``.
        """
        for parameter in self.critic.parameters():
            parameter.grad = None
        loss = critic_loss(torch.stack(self.critic(obs, actions)), target)
        if loss.requires_grad:  # unless all is frozen
            loss.backward()
        return loss.detach()

    def lowest(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """min_i Q_i(s, a) ``(B,)`` and its slope in the actions ``(B, X)``, without gradient."""
        with torch.enable_grad():
            actions = actions.detach().requires_grad_()
            q = torch.stack(self.critic(obs, actions)).amin(0).squeeze(-1)
            q.sum().backward(inputs=[actions])
        assert actions.grad is not None
        return q.detach(), actions.grad

    @torch.no_grad()
    def values(self, obs: Any, actions: Tensor) -> Tensor:
        """min_i Q_i(s, a) ``(n, B)`` for n actions of each state ``(n, B, X)``."""
        return torch.stack([torch.cat(self.critic(obs, a), dim=1).amin(1) for a in actions])


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """½ Σ_i mean_B (Q_i(s, a) − y)² for q ``(N, B, 1)`` and y ``(B, 1)``."""
    assert q.shape[1:] == target.shape, (q.shape, target.shape)
    return 0.5 * (q - target).square().mean((1, 2)).sum()
