"""Which critics SAC's native update covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from vaerl.native.covered import MAX_DEPTH, Groups, Uncovered, layers_of
from vaerl.policies.critic_layers import (
    RENORM_AFTER,
    Activations,
    BatchRenorms,
    LayerNorms,
    Linears,
    Residuals,
)
from vaerl.policies.critic_net import CRITICS, CriticNet
from vaerl.policies.fast import Trunks

PLAIN, RESIDUAL, RENORM = range(3)
"""Kinds of critics, see sac.cpp."""


class Covered(NamedTuple):
    """Some critics as the library sees them."""

    kind: int
    groups: Groups
    """Their tensors in its order."""
    number: int
    """Of critics."""
    widths: list[int]
    """Of hidden layers, or of residual blocks."""
    norms: Sequence[Any] = ()
    """Layers whose running statistics move with an update."""

    @property
    def shape(self) -> tuple[int, int, list[int]]:
        """What a target has in common with its critics."""
        return self.kind, self.number, self.widths

    @property
    def statistics(self) -> Groups:
        """Their running statistics in the library's order."""
        return [
            [moments] for norm in self.norms for moments in (norm.running_mean, norm.running_var)
        ]

    @property
    def renormalises(self) -> bool:
        """Whether the next update pulls batches towards the running statistics."""
        return bool(self.norms) and int(self.norms[0].steps) > RENORM_AFTER


def critics_of(critic: Any, normalizer: nn.Module | None) -> Covered:
    """The critics of a policy.

    Args:
        critic: the module of all of them.
        normalizer: what observations pass in the actor, which has to be the same.

    Raises:
        Uncovered: others than those of Stable-Baselines3, SimBa and CrossQ, or over other
            observations.
    """
    forms = {ContinuousCritic: _plain, CriticNet: _with_norms}
    form = forms.get(type(critic))
    if form is None:
        raise _uncovered(critic)
    found = form(critic)
    trunks = Trunks.of(critic, [critic.features_extractor], [])
    if trunks is None or trunks.normalizer is not normalizer:
        raise _uncovered(critic)
    return found


def _plain(critic: Any) -> Covered:
    stacks = [layers_of(each, (nn.ReLU,), closed=False)[0] for each in critic.q_networks]
    widths = [layer.out_features for layer in stacks[0][:-1]]
    if any([layer.out_features for layer in layers[:-1]] != widths for layers in stacks):
        raise Uncovered("critics of different sizes")
    groups = [[p] for layers in stacks for layer in layers for p in (layer.weight, layer.bias)]
    return Covered(PLAIN, groups, len(stacks), widths)


def _with_norms(critic: Any) -> Covered:
    layers, leaves = list(critic.net), list(critic.net)
    if critic.waves.numel():
        raise _uncovered(critic)
    if critic.parts == CRITICS["simba"]:
        blocks: list[Any] = layers[1:-2]
        _check_types(critic, layers, [Linears, *[Residuals] * len(blocks), LayerNorms, Linears])
        for block in blocks:
            _check_types(critic, block, [LayerNorms, Linears, Activations, Linears])
        kind, norms = RESIDUAL, []
        widths = [block[0].scale.shape[2] for block in blocks]
        leaves = [layers[0], *(layer for block in blocks for layer in block), *layers[-2:]]
    elif critic.parts == CRITICS["crossq"]:
        depth = len(layers) // 3
        unit = [BatchRenorms, Linears, Activations]
        _check_types(critic, layers, [*unit * depth, BatchRenorms, Linears])
        kind, norms = RENORM, layers[::3]
        widths = [layer.weight.shape[1] for layer in layers[1:-1:3]]
        if len({int(norm.steps) for norm in norms}) > 1:
            raise Uncovered("batch normalisations that have seen different numbers of batches")
    else:
        raise _uncovered(critic)
    if len(widths) > MAX_DEPTH:
        raise Uncovered(f"critics of more than {MAX_DEPTH} layers or blocks")
    activations = [layer for layer in critic.net.modules() if type(layer) is Activations]
    if any(type(layer.function) is not nn.ReLU for layer in activations):
        raise Uncovered("activations of the critic other than ReLU")
    groups = [[p] for layer in leaves for p in layer.parameters()]  # shared ones come twice
    return Covered(kind, groups, critic.n_critics, widths, norms)


def _check_types(critic: Any, layers: Any, wanted: list[type[nn.Module]]) -> None:
    if [type(layer) for layer in layers] != wanted:
        raise _uncovered(critic)


def _uncovered(critic: Any) -> Uncovered:
    return Uncovered(f"critic {type(critic).__name__} with these options or observations")
