"""Which critics SAC's native update covers."""

from __future__ import annotations

from typing import Any, NamedTuple

from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from vaerl.native.covered import MAX_DEPTH, Groups, Uncovered, layers_of
from vaerl.policies.critic_layers import Activations, LayerNorms, Linears, Residuals
from vaerl.policies.critic_net import CRITICS, CriticNet
from vaerl.policies.fast import Trunks


class Covered(NamedTuple):
    """Some critics as the library sees them."""

    groups: Groups
    """Their tensors in its order."""
    number: int
    """Of critics."""
    widths: list[int]
    """Of hidden layers, or of residual blocks."""
    residual: bool


def critics_of(critic: Any, normalizer: nn.Module | None) -> Covered:
    """The critics of a policy.

    Args:
        critic: the module of all of them.
        normalizer: what observations pass in the actor, which has to be the same.

    Raises:
        Uncovered: others than Stable-Baselines3's and SimBa's, or over other observations.
    """
    forms = {ContinuousCritic: _plain, CriticNet: _residual}
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
    return Covered(groups, len(stacks), widths, residual=False)


def _residual(critic: Any) -> Covered:
    blocks: list[Any] = [layer for layer in critic.net if type(layer) is Residuals]
    if critic.parts != CRITICS["simba"] or critic.waves.numel():
        raise _uncovered(critic)
    if not 0 < len(blocks) <= MAX_DEPTH:
        raise Uncovered(f"critics of {len(blocks)} residual blocks")
    _check_types(critic, critic.net, [Linears, *[Residuals] * len(blocks), LayerNorms, Linears])
    for block in blocks:
        _check_types(critic, block, [LayerNorms, Linears, Activations, Linears])
        if type(block[2].function) is not nn.ReLU:
            raise Uncovered("activations of the critic other than ReLU")
    widths = [block[0].scale.shape[2] for block in blocks]
    return Covered([[p] for p in critic.net.parameters()], critic.n_critics, widths, residual=True)


def _check_types(critic: Any, layers: Any, wanted: list[type[nn.Module]]) -> None:
    if [type(layer) for layer in layers] != wanted:
        raise _uncovered(critic)


def _uncovered(critic: Any) -> Uncovered:
    return Uncovered(f"critic {type(critic).__name__} with these options or observations")
