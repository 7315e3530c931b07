"""What an agent has learned: modules, optimizers and variables, as tensors and plain data.

stable-baselines3 lists them in `_get_torch_save_params`. A module or optimizer of the agent that is
missing there would be lost, so saving refuses it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from vaerl.checkpoint.tensors import Tensors


class Parts:
    """The modules, optimizers and variables of an agent, by stable-baselines3's names for them."""

    def __init__(self, agent: BaseAlgorithm) -> None:
        states, variables = agent._get_torch_save_params()
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.variables: Tensors = {name: recursive_getattr(agent, name) for name in variables}
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

    def names(self) -> dict[torch.Tensor, str]:
        """Return the name of every tensor that an optimizer may hold."""
        names = {tensor: f"variable/{name}" for name, tensor in self.variables.items()}
        for prefix, module in self.modules.items():
            for name, parameter in module.named_parameters():
                names.setdefault(parameter, f"{prefix}/{name}")
        return names


def capture_modules(parts: Parts) -> tuple[Tensors, dict[str, Any]]:
    """Return state dicts and variables as (tensors, extra state of modules that is no tensor).

    A tensor with several names, as in a shared extractor, is stored under the first one.

    Raises ValueError if a parameter is not finite: such an agent is no use as a checkpoint.
    """
    tensors: Tensors = {f"variable/{name}": t.detach() for name, t in parts.variables.items()}
    extra: dict[str, Any] = {}
    first: dict[Hashable, str] = {}
    for prefix, module in parts.modules.items():
        for name, value in module.state_dict(keep_vars=True).items():
            key = f"{prefix}/{name}"
            if not isinstance(value, torch.Tensor):
                extra[key] = value
                continue
            if isinstance(value, nn.Parameter) and not bool(torch.isfinite(value).all()):
                raise ValueError(f"parameter {key} is not finite; nothing saved")
            if first.setdefault(_memory(value), key) == key:
                tensors[key] = value.detach()
    return tensors, extra


def restore_modules(parts: Parts, tensors: Tensors, extra: dict[str, Any]) -> None:
    """Load what `capture_modules` returned; ValueError unless it fits the agent exactly."""
    unused = set(tensors)
    first: dict[Hashable, str] = {}

    def fitting(key: str, fresh: torch.Tensor) -> torch.Tensor:
        unused.discard(key)
        if key not in tensors:
            raise ValueError(f"{key}: missing")
        stored = tensors[key]
        if (stored.shape, stored.dtype) != (fresh.shape, fresh.dtype):
            raise ValueError(
                f"{key}: got {list(stored.shape)} of {stored.dtype}, "
                f"expected {list(fresh.shape)} of {fresh.dtype}"
            )
        if bool(torch.isnan(stored).any()):
            raise ValueError(f"{key}: holds NaN")
        return stored

    for prefix, module in parts.modules.items():
        state: dict[str, Any] = {}
        for name, fresh in module.state_dict(keep_vars=True).items():
            key = f"{prefix}/{name}"
            if isinstance(fresh, torch.Tensor):
                state[name] = fitting(first.setdefault(_memory(fresh), key), fresh)
            else:
                state[name] = extra[key]
        module.load_state_dict(state)
    for name, variable in parts.variables.items():
        # in place: its optimizer holds this very tensor
        variable.data.copy_(fitting(f"variable/{name}", variable))
    if unused:
        raise ValueError(f"{min(unused)}: the agent has no such tensor")


def _memory(tensor: torch.Tensor) -> Hashable:
    """Return a key that is equal for tensors that share all of their memory."""
    if not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def capture_optimizers(parts: Parts) -> tuple[Tensors, dict[str, Any]]:
    """Return optimizer states as (tensors, settings of the groups and numbers)."""
    names = parts.names()
    tensors: Tensors = {}
    data: dict[str, Any] = {"groups": {}, "numbers": {}}
    for label, optimizer in parts.optimizers.items():
        data["groups"][label] = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        for parameter in _members(optimizer):
            if parameter not in names:
                shape = list(parameter.shape)
                raise ValueError(f"{label} steps a tensor {shape} that no saved module holds")
            for key, value in optimizer.state.get(parameter, {}).items():
                place = f"{label}/{names[parameter]}/{key}"
                (tensors if isinstance(value, torch.Tensor) else data["numbers"])[place] = value
    return tensors, data


def restore_optimizers(parts: Parts, tensors: Tensors, data: dict[str, Any]) -> None:
    """Load what `capture_optimizers` returned; ValueError unless it fits the parameters."""
    names = parts.names()
    states: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in {**tensors, **data["numbers"]}.items():
        place, _, name = key.rpartition("/")
        states[place][name] = value
    for label, optimizer in parts.optimizers.items():
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in enumerate(_members(optimizer)):
            entry = states.pop(f"{label}/{names[parameter]}", None)
            for name, value in (entry or {}).items():
                if getattr(value, "shape", ()) not in ((), parameter.shape):
                    shapes = f"got {list(value.shape)}, expected {list(parameter.shape)}"
                    raise ValueError(f"{label}/{names[parameter]}/{name}: {shapes}")
            if entry:
                state[number] = entry
        fresh = optimizer.state_dict()["param_groups"]
        groups = zip(data["groups"][label], fresh, strict=True)
        restored = [_settings(stored, group, label) for stored, group in groups]
        optimizer.load_state_dict({"state": state, "param_groups": restored})
    if states:
        raise ValueError(f"{min(states)}: no optimizer of the agent steps it")


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
