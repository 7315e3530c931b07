"""What an agent has learned, as a tree of tensors and plain data.

stable-baselines3 lists its modules, optimizers and variables in `_get_torch_save_params`. A module
or optimizer of the agent that is missing there would be lost, so saving refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn


class Parts:
    """The modules, optimizers and variables of an agent, by stable-baselines3's names for them.

    Raises ValueError for a part that would be lost.
    """

    def __init__(self, agent: BaseAlgorithm) -> None:
        states, variables = agent._get_torch_save_params()
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.variables = {name: recursive_getattr(agent, name) for name in variables}
        for name in states:
            part = recursive_getattr(agent, name)
            if isinstance(part, nn.Module):
                self.modules[name] = part
            elif isinstance(part, torch.optim.Optimizer):
                self.optimizers[name] = part
            else:
                raise ValueError(f"{type(agent).__name__}.{name} is no module and no optimizer")
        self._refuse_undeclared(agent)

    def _refuse_undeclared(self, agent: BaseAlgorithm) -> None:
        known = {id(m) for module in self.modules.values() for m in module.modules()}
        known |= {id(optimizer) for optimizer in self.optimizers.values()}
        known |= {id(getattr(m, "optimizer", None)) for m in self.modules.values()}
        for name, value in vars(agent).items():
            if isinstance(value, nn.Module | torch.optim.Optimizer) and id(value) not in known:
                raise ValueError(
                    f"{type(agent).__name__}.{name} would be lost: _get_torch_save_params does not "
                    "name it"
                )
        held = {id(p) for module in self.modules.values() for p in module.parameters()}
        held |= {id(variable) for variable in self.variables.values()}
        for label, optimizer in self.optimizers.items():
            for tensor in _members(optimizer):
                if id(tensor) not in held:
                    shape = list(tensor.shape)
                    raise ValueError(f"{label} steps a tensor {shape} that no saved module holds")

    def capture(self) -> dict[str, Any]:
        """Return "modules", "variables" and "optimizers": the state dict of each by its name.

        Raises ValueError if a parameter is not finite: such an agent is useless as a checkpoint.
        """
        for prefix, module in self.modules.items():
            for name, parameter in module.named_parameters():
                if not bool(torch.isfinite(parameter).all()):
                    raise ValueError(f"parameter {prefix}/{name} is not finite; nothing saved")
        optimizers = {label: optimizer.state_dict() for label, optimizer in self.optimizers.items()}
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "variables": {name: tensor.detach() for name, tensor in self.variables.items()},
            "optimizers": {
                label: {
                    "groups": whole["param_groups"],
                    "state": {str(number): entry for number, entry in whole["state"].items()},
                }
                for label, whole in optimizers.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `capture` returned; raises an error unless it fits the agent exactly."""
        for prefix, module in self.modules.items():
            stored = state["modules"][prefix]
            for name, fresh in module.state_dict().items():
                if isinstance(fresh, torch.Tensor):
                    _check_like(stored[name], fresh, f"{prefix}/{name}")
            module.load_state_dict(stored)
            _continue_streams(module, stored)
        for name, variable in self.variables.items():
            _check_like(state["variables"][name], variable, name)
            variable.data.copy_(state["variables"][name])  # its optimizer holds this very tensor
        for label, optimizer in self.optimizers.items():
            _restore_optimizer(optimizer, state["optimizers"][label], label)


def _continue_streams(module: nn.Module, stored: dict[str, Any]) -> None:
    """Give modules with a state beside their tensors the stored one, whatever they keep of it.

    The random streams of a seeded agent stay its own under `load_state_dict`, as SB3's
    `load(seed=…)` asks; training goes on with the stored ones.
    """
    for name, inner in module.named_modules():
        if type(inner).set_extra_state is not nn.Module.set_extra_state:
            inner.set_extra_state(stored[f"{name}._extra_state" if name else "_extra_state"])


def _check_like(stored: torch.Tensor, fresh: torch.Tensor, name: str) -> None:
    if (stored.shape, stored.dtype) != (fresh.shape, fresh.dtype):
        raise ValueError(
            f"{name}: got {list(stored.shape)} of {stored.dtype}, "
            f"expected {list(fresh.shape)} of {fresh.dtype}"
        )
    if bool(torch.isnan(stored).any()):
        raise ValueError(f"{name}: holds NaN")


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, stored: dict[str, Any], label: str
) -> None:
    """Load a state; torch itself would take moments of any shape and settings of any type."""
    members = list(_members(optimizer))
    state = {int(number): entry for number, entry in stored["state"].items()}
    for number, entry in state.items():
        for name, value in entry.items():
            if getattr(value, "shape", ()) not in ((), members[number].shape):
                shapes = f"got {list(value.shape)}, expected {list(members[number].shape)}"
                raise ValueError(f"{label}/{number}/{name}: {shapes}")
    groups = zip(stored["groups"], optimizer.state_dict()["param_groups"], strict=True)
    settings = [_settings(before, fresh, label) for before, fresh in groups]
    optimizer.load_state_dict({"state": state, "param_groups": settings})


def _settings(stored: dict[str, Any], fresh: dict[str, Any], label: str) -> dict[str, Any]:
    """Return the stored settings of a group; those that were not stored keep their defaults."""
    settings = dict(fresh)
    for key, was in fresh.items():
        value = was if key == "params" else stored.get(key, was)
        value = tuple(value) if isinstance(was, tuple) else value
        if was is not None and value is not None and type(value) is not type(was):
            raise ValueError(f"{label}:{key}: got {value!r}, expected one like {was!r}")
        settings[key] = value
    return settings


def _members(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
