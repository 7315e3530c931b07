"""Parameters and the state of their optimiser as views into flat memory, which a kernel updates."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vaerl.native.covered import Groups, Uncovered, changed_options


class FlatStruct(ctypes.Structure):
    """`Flat` of vaerl/native/dense.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "gradient", "mean", "square")),
        *((name, ctypes.c_float) for name in ("lr", "beta1", "beta2", "eps")),
        *((name, ctypes.c_int64) for name in ("step", "size")),
    )


def flat_size(groups: Groups) -> int:
    """Floats in the flat memory of these tensors."""
    return sum(-(-sum(tensor.numel() for tensor in group) // 16) * 16 for group in groups)


class Flat:
    """Flat memory of tensors, whose `data` it replaces by views.

    Saving, loading, acting and torch's own optimiser go on with these views as with any tensors.

    Args:
        groups: the tensors in the kernel's order.
        optimizer: the Adam that steps them and nothing else; None for targets.
    """

    def __init__(self, groups: Groups, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.tensors = [tensor for group in groups for tensor in group]
        self.optimizer = optimizer
        places, self.size = [], 0
        for group in groups:
            for tensor in group:
                places.append(slice(self.size, self.size + tensor.numel()))
                self.size += tensor.numel()
            self.size += -self.size % 16
        self.value = torch.zeros(self.size, dtype=torch.float32)
        for tensor, place in zip(self.tensors, places, strict=True):
            view = self.value[place].view(tensor.shape)
            tensor.data = view.copy_(tensor.data)
        self._places = places
        self._pointers = [tensor.data_ptr() for tensor in self.tensors]
        if optimizer is not None:
            self._adopt(optimizer, places)

    def _adopt(self, optimizer: torch.optim.Optimizer, places: Sequence[slice]) -> None:
        """Replace Adam's state, made here where it has not stepped yet."""
        self.gradient, self.mean, self.square = (
            torch.zeros(self.size, dtype=torch.float32) for _ in range(3)
        )
        self.steps = torch.zeros(len(places), dtype=torch.float32)
        for number, (tensor, place) in enumerate(zip(self.tensors, places, strict=True)):
            state = optimizer.state[tensor]
            for name, memory in (("exp_avg", self.mean), ("exp_avg_sq", self.square)):
                view = memory[place].view(tensor.shape)
                state[name] = view.copy_(state[name]) if name in state else view
            self.steps[number] = float(state.get("step", 0.0))
            state["step"] = self.steps[number]
        if not bool((self.steps == self.steps[0]).all()):
            raise Uncovered("an optimizer whose parameters have taken different numbers of steps")
        self._state: Any = optimizer.state
        self._moments = self._places_of_moments()

    def _places_of_moments(self) -> list[int]:
        assert self.optimizer is not None
        state, names = self.optimizer.state, ("exp_avg", "exp_avg_sq", "step")
        return [
            tensor.data_ptr() for t in self.tensors if t in state for name in names
            if isinstance(tensor := state[t].get(name), Tensor)
        ]  # fmt: skip

    @property
    def in_place(self) -> bool:
        """Whether all tensors still are these views."""
        return [t.data_ptr() for t in self.tensors] == self._pointers

    @property
    def intact(self) -> bool:
        """Whether, besides, none is frozen, and the optimizer goes on as it was."""
        if not self.in_place:
            return False
        if self.optimizer is None:
            return True
        if self.optimizer.state is not self._state or changed_options(self.optimizer):
            return False
        if any(
            not t.requires_grad or t._backward_hooks or t._post_accumulate_grad_hooks
            for t in self.tensors
        ):
            return False
        return self._places_of_moments() == self._moments

    def holds(self, groups: Groups) -> bool:
        """Whether these are its tensors."""
        tensors = [tensor for group in groups for tensor in group]
        return list(map(id, tensors)) == list(map(id, self.tensors))

    def release(self) -> None:
        """Give all tensors and the optimizer's state memory of their own again."""
        for tensor in self.tensors:
            tensor.data = tensor.data.clone()
            state = {} if self.optimizer is None else self.optimizer.state.get(tensor, {})
            for name, value in state.items():
                state[name] = value.clone() if isinstance(value, Tensor) else value

    def before_step(self) -> FlatStruct:
        """The memory for the kernel, which is to take one step."""
        assert self.optimizer is not None
        group = self.optimizer.param_groups[0]
        return FlatStruct(
            *(m.data_ptr() for m in (self.value, self.gradient, self.mean, self.square)),
            float(group["lr"]),
            *group["betas"],
            group["eps"],
            int(self.steps[0]) + 1,
            self.size,
        )

    def lend_gradient(self) -> None:
        """Make the kernel's gradient that of the tensors."""
        for tensor, place in zip(self.tensors, self._places, strict=True):
            tensor.grad = self.gradient[place].view(tensor.shape)

    def after_step(self) -> None:
        """Tell torch what the kernel has changed."""
        self.steps += 1
        torch.autograd.graph.increment_version(self.tensors)
