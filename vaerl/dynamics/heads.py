"""Networks of a model beside its density, over (s, a, Δs): a learned end and a regressed reward.

They see the outcome of a step, so what it brings follows from where it went: the reward of a law
with several outcomes needs no law of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaerl.densities.fold import Affine, fold_stack
from vaerl.dynamics.normaliser import Normaliser

HEADS = ("termination", "reward")
Heads = dict[str, Tensor]
"""Outputs of those heads that a model has."""
LEARNED_REWARDS = ("learned", "regressed")
"""Kinds of a reward that a model learns: in its density, or by squared error beside it."""


def head(networks: Any, name: str, context: Tensor, change: Tensor) -> Tensor:
    """Output ``(E, B)`` of a head at standardised inputs and changes: a logit, or a reward."""
    return networks[name](torch.cat((context, change), dim=-1)).squeeze(-1)


def heads_loss(
    networks: Any, context: Tensor, change: Tensor, rewards: Tensor | None, ends: Tensor | None
) -> Tensor:
    """What the heads add to −log p of a step, in nats, ``(E, B)``; 0 without heads.

    Of an end d: −log p(d | s, a, Δs) of the Bernoulli law. Of a standardised reward: −log of the
    Gaussian N(r; r̂(s, a, Δs), 1), whose gradient is that of the squared error.

    Args:
        context, change: standardised, ``(E, B, C)`` and ``(E, B, P)``.
        rewards, ends: ``(B,)`` or ``(E, B)``; None where there is no such head.
    """
    loss = context.new_zeros(context.shape[:-1])
    if "termination" in networks:
        assert ends is not None, "check(data) comes first"
        logit = head(networks, "termination", context, change)
        loss = loss + functional.binary_cross_entropy_with_logits(
            logit, ends.expand_as(logit), reduction="none"
        )
    if "reward" in networks:
        assert rewards is not None, "check(data) comes first"
        error = head(networks, "reward", context, change) - rewards
        loss = loss + 0.5 * error.square() + 0.5 * math.log(2.0 * math.pi)
    return loss


def fold_heads(
    networks: Any, inputs: Normaliser, targets: Normaliser, change_dim: int
) -> dict[str, FoldedHead]:
    """The fast forms of those heads that there are."""
    present = (name for name in HEADS if name in networks)
    return {name: FoldedHead(networks[name], inputs, targets, change_dim) for name in present}


class FoldedHead:
    """The fast form of a head of all members, without gradients (see `vaerl.densities.fold`), at
    raw inputs and changes in their own units.

    Both normalisers are in the first weights, and no input is copied beside another.

    Args:
        network: a stack over standardised inputs and changes, with members in front.
        inputs, targets: normalisers, the latter of events that begin with the changes.
        change_dim: P, the number of changes.
    """

    def __init__(
        self, network: nn.Module, inputs: Normaliser, targets: Normaliser, change_dim: int
    ) -> None:
        steps = fold_stack(network)
        assert steps is not None, "a head is a stack of layers, see vaerl.nets.mlp"
        first, *self._others = steps
        assert isinstance(first, Affine), first
        self._size = change_dim
        first.take_raw(
            torch.cat((inputs.mean, targets.mean[:change_dim])),
            torch.cat((inputs.scale, targets.scale[:change_dim])),
        )
        self._context, self._change = first.split(len(inputs.mean))

    def __call__(self, context: Tensor, event: Tensor) -> Tensor:
        """Outputs ``(E, B)`` from inputs ``(E, B, C)`` and events ``(E, B, X)``."""
        h = self._change.add(self._context(context), event[..., : self._size])
        for step in self._others:
            h = step(h)
        return h.squeeze(-1)
