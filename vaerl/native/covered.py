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
    if changed := changed_options(optimizer):
        raise Uncovered(f"{changed[0]} of the {name}'s optimizer")
    if sorted(map(id, optimizer.param_groups[0]["params"])) != sorted(map(id, parameters)):
        raise Uncovered(f"the {name}'s optimizer, which steps other parameters")


def changed_options(optimizer: torch.optim.Optimizer) -> list[str]:
    """Options of Adam that the library does not know, as far as they are set."""
    group = optimizer.param_groups[0]
    return [key for key in ("weight_decay", "amsgrad", "maximize") if group[key]]


def layers_of(
    network: nn.Module, known: Sequence[type[nn.Module]], closed: bool
) -> tuple[list[nn.Linear], type[nn.Module]]:
    """The linear layers of a stack with one activation between any two, and that activation.

    Args:
        known: activations; the first where there is none.
        closed: whether there is one behind the last layer too.
    """
    children: list[Any] = list(network.children())
    linear, between = children[::2], children[1::2]
    names = " or ".join(activation.__name__ for activation in known)
    if type(network) is not nn.Sequential or any(
        type(layer) is not nn.Linear or layer.bias is None for layer in linear
    ):
        raise Uncovered("networks other than stacks of linear layers and activations")
    if len(linear) > MAX_DEPTH:
        raise Uncovered(f"networks of more than {MAX_DEPTH} layers")
    if any(type(layer) not in known for layer in between) or len(set(map(type, between))) > 1:
        raise Uncovered(f"activations other than {names}")
    if linear and len(between) != len(linear) - (not closed):
        raise Uncovered("networks without an activation behind every hidden layer")
    return linear, type(between[0]) if between else known[0]


def check_tensors(tensors: Sequence[Tensor]) -> None:
    """Raise `Uncovered` unless they are float32 numbers of their own on the CPU, without hooks."""
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        raise Uncovered("parameters other than float32 on a CPU")
    if len({t.data_ptr() for t in tensors}) != len(tensors):
        raise Uncovered("shared parameters")
    if any(t._backward_hooks or t._post_accumulate_grad_hooks for t in tensors):
        raise Uncovered("hooks")


class Untouched:
    """Whether modules are those that the plan has seen, and nothing wants to be called in between.

    Checks of gradients and what forgets old numbers are not needed: the library looks at gradients
    itself, and tells torch what it has changed.

    Args:
        networks: whose modules the update does without.
        optimizers: whose steps it takes.
    """

    def __init__(self, networks: Sequence[nn.Module], optimizers: Sequence[Any]) -> None:
        modules = [module for network in networks for module in network.modules()]
        self._children = [module._modules for module in modules if module._modules]
        self._seen = self._now()
        self._hooks = [
            hooks
            for m in modules
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks,
                          m._backward_pre_hooks)
        ]  # fmt: skip
        self._optimizers = optimizers
        self._steps = [
            hooks
            for optimizer in optimizers
            for hooks in (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
        ]
        self._plain = not any("forward" in vars(module) for module in modules)

    def _now(self) -> list[int]:
        return [id(child) for children in self._children for child in children.values()]

    def __bool__(self) -> bool:
        if not self._plain or any(self._hooks) or self._now() != self._seen:
            return False
        if any("step" in vars(optimizer) for optimizer in self._optimizers):
            return False
        steps = (hook for hooks in self._steps for hook in hooks.values())
        return all(getattr(hook, "unneeded_natively", False) for hook in steps)
