"""Several networks of one shape as one network with a leading dimension of members.

Inputs are ``(*sample_shape, E, B, in)``: member e sees row e only. Every parameter gains the
leading dimension E: those of linear layers become one batched matrix product, the others
``(E, 1, *shape)``, which broadcasts against ``(E, B, …)``. A density of linear layers and
elementwise operations, as all of `vaerl.densities` are, runs unchanged on such parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class BatchedLinear(nn.Module):
    """E linear layers side by side: y_e = x_e W_eᵀ + b_e, as one batched product.

    Args:
        layers: E linear layers of one shape; a `mask` on their weights is kept.
    """

    bias: Tensor | None
    mask: Tensor | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        bias = None
        if layers[0].bias is not None:
            bias = nn.Parameter(torch.stack([l.bias.detach() for l in layers]).unsqueeze(1))
        self.register_parameter("bias", bias)
        self.register_buffer("mask", getattr(layers[0], "mask", None))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(*sample_shape, E, B, out)`` for inputs ``(*sample_shape, E, B, in)``."""
        weight = (self.weight if self.mask is None else self.mask * self.weight).mT
        if x.ndim == 3:
            return self._product(x, weight)
        members_first = x.movedim(-3, 0)
        y = self._product(members_first.flatten(1, -2), weight)
        return y.reshape(*members_first.shape[:-1], y.shape[-1]).movedim(0, -3)

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight if self.bias is None else torch.baddbmm(self.bias, x, weight)


def batch_members(members: Sequence[Module]) -> Module:
    """One module that computes all `members`, which are left as they are.

    Members have the same structure; buffers are taken from the first of them.

    >>> two = batch_members([nn.Sequential(nn.Linear(3, 2)) for _ in range(2)])
    >>> two(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """
    batched = copy.deepcopy(members[0])
    _batch(batched, members)
    return batched


def select_members(batched: Module, members: Sequence[int]) -> Module:
    """A copy that holds only the given members, in that order, without gradients."""
    picked = copy.deepcopy(batched).requires_grad_(False)
    for parameter in picked.parameters():
        parameter.data = parameter.data[list(members)].contiguous()
    return picked


@torch.no_grad()
def extract_member(batched: nn.Module, member: int, into: Module) -> Module:
    """Copy one member's parameters into an ordinary module of the same structure, and return it."""
    source = dict(batched.named_parameters())
    for name, parameter in into.named_parameters():
        parameter.copy_(source[name][member].reshape(parameter.shape))
    return into


def _batch(module: nn.Module, members: Sequence[nn.Module]) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        stacked = torch.stack([getattr(member, name).detach() for member in members])
        module.register_parameter(
            name, nn.Parameter(stacked.unsqueeze(1), requires_grad=parameter.requires_grad)
        )
    for name, child in list(module.named_children()):
        children: list[Any] = [getattr(member, name) for member in members]
        if _is_linear(child):
            setattr(module, name, BatchedLinear(children))
        else:
            _batch(child, children)


def _is_linear(module: Any) -> bool:
    """torch's linear layer, or one of another library with the same weight and sizes."""
    alike = hasattr(module, "in_features") and hasattr(module, "out_features")
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) or (
        alike and isinstance(weight, nn.Parameter) and weight.ndim == 2
    )
