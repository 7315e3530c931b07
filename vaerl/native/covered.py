"""Which networks, parameters and optimizers the native updates cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MAX_DEPTH, MAX_BLOCKS = 8, 4
"""Most layers of a network, and most blocks of a latent density."""
Groups = Sequence[Sequence[Tensor]]
"""Tensors that lie side by side; every group begins at a multiple of 16 floats."""


class Uncovered(Exception):
    """The native update does not cover the agent; the message names the part."""


def check_adam(optimizer: Any, groups: Groups, name: str) -> None:
    """Raise `Uncovered` unless it is plain Adam over exactly these tensors, each once."""
    parameters = [tensor for group in groups for tensor in group]
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        raise Uncovered(f"the {name}'s optimizer {type(optimizer).__name__}")
    if not all(parameter.requires_grad for parameter in parameters):
        raise Uncovered(f"frozen parameters of the {name}")
    group = optimizer.param_groups[0]
    changed = [key for key in ("weight_decay", "amsgrad", "maximize") if group[key]]
    if changed:
        raise Uncovered(f"{changed[0]} of the {name}'s optimizer")
    if sorted(map(id, group["params"])) != sorted(map(id, parameters)):
        raise Uncovered(f"the {name}'s optimizer, which steps other parameters")


def layers_of(network: nn.Module, activation: type[nn.Module] = nn.ReLU) -> list[nn.Linear]:
    """The linear layers of a stack, an activation between any two and maybe behind the last."""
    linear: list[Any] = list(network.children())[::2]
    between, name = list(network.children())[1::2], activation.__name__
    plain = type(network) is nn.Sequential and len(linear) <= MAX_DEPTH
    if not plain or any(type(layer) is not nn.Linear or layer.bias is None for layer in linear):
        raise Uncovered(f"networks other than stacks of linear layers and {name}s")
    if any(type(layer) is not activation for layer in between):
        raise Uncovered(f"activations other than {name}")
    return linear


def check_tensors(tensors: Sequence[Tensor]) -> None:
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        raise Uncovered("parameters other than float32 on a CPU")
    if len({t.data_ptr() for t in tensors}) != len(tensors):
        raise Uncovered("shared parameters")
    if any(t._backward_hooks for t in tensors):
        raise Uncovered("hooks")


class Hooks:
    """Whether anything wants to be called in between, besides checks of gradients.

    Args:
        networks: whose modules the update does without.
        optimizers: whose steps it takes.
    """

    def __init__(self, networks: Sequence[nn.Module], optimizers: Sequence[Any]) -> None:
        self._modules = [
            hooks
            for module in (m for network in networks for m in network.modules())
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ]
        self._steps = [optimizer._optimizer_step_pre_hooks for optimizer in optimizers]

    def __bool__(self) -> bool:
        steps = (hook for hooks in self._steps for hook in hooks.values())
        return any(self._modules) or not all(getattr(h, "only_checks", False) for h in steps)
