"""The critics of SAC's update: their regression, the lowest value, and its slope."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaerl.policies.critic_heads import Backup, ScalarHead
from vaerl.policies.critic_net import CriticNet


class Transition(NamedTuple):
    """What critics learn from: B transitions with the actions that follow."""

    obs: Any
    actions: Tensor
    """a ``(B, X)``."""
    next_obs: Any
    next_actions: Tensor
    """a' ~ π(s') ``(B, X)``."""
    backup: Backup
    """What turns a value at (s', a') into a target."""


class Critics:
    """N critics of any kind, differentiated by autograd.

    SAC reaches its critics through these calls alone, so a faster form needs no more than them.
    B states, X action dimensions.

    Args:
        critic: SB3's module or a `CriticNet`, whose parameters are used and updated in place.
        target: its slow copy, or the same module if it has none.
        precision: of the products of a `CriticNet`, "float32" or "bf16".
    """

    def __init__(self, critic: Any, target: Any, precision: str = "float32") -> None:
        self.critic, self.target = critic, target
        nets = [net for net in (critic, target) if isinstance(net, CriticNet)]
        self.bfloat16 = any([net.multiply_in(precision) for net in nets])
        self.head = getattr(critic, "head", None) or ScalarHead()  # SB3's critics are values

    def regress(self, step: Transition) -> Tensor:
        """Write the gradient of the head's loss into the parameters; returns the loss, 0-d."""
        for parameter in self.critic.parameters():
            parameter.grad = None
        now, after = self.pair(step)
        loss = self.head.loss(now, after, step.backup)
        if loss.requires_grad:  # unless all is frozen
            loss.backward()
        return loss.detach()

    def pair(self, step: Transition) -> tuple[Tensor, Tensor]:
        """Outputs at (s, a), and without gradient those at (s', a'), ``(N, B, K)`` each."""
        own = getattr(self.critic, "pair", None)
        if own is not None:
            return own(self.target, *step[:4])
        with torch.no_grad():
            after = torch.stack(self.target(step.next_obs, step.next_actions))
        return torch.stack(self.critic(step.obs, step.actions)), after

    def settle(self) -> None:
        """To be called after a step of the optimiser: weights return to their lengths."""
        project = getattr(self.critic, "project_", None)
        if project is not None:
            project()

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


@torch.no_grad()
def polyak_(target: Iterable[Tensor], source: Iterable[Tensor], tau: float) -> None:
    """target ← target + τ (source − target), all tensors in one pass."""
    moved = list(target)
    if moved:
        torch._foreach_lerp_(moved, list(source), tau)
