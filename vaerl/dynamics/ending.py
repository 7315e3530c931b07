"""The fast form of a learned termination, without gradients (see `vaerl.densities.fold`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaerl.densities.fold import Affine, fold_stack
from vaerl.dynamics.normaliser import Normaliser


class FoldedEnding:
    """P(d | s, a, Δs) of all members at raw inputs and changes in their own units.

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
        assert steps is not None, "a termination is a stack of layers, see vaerl.nets.mlp"
        first, *self._others = steps
        assert isinstance(first, Affine), first
        self._size = change_dim
        first.take_raw(
            torch.cat((inputs.mean, targets.mean[:change_dim])),
            torch.cat((inputs.scale, targets.scale[:change_dim])),
        )
        self._context, self._change = first.split(len(inputs.mean))

    def __call__(self, context: Tensor, event: Tensor) -> Tensor:
        """Probabilities ``(E, B)`` from inputs ``(E, B, C)`` and events ``(E, B, X)``."""
        h = self._change.add(self._context(context), event[..., : self._size])
        for step in self._others:
            h = step(h)
        return torch.sigmoid(h.squeeze(-1))
