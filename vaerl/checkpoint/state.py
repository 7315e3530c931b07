"""What an agent has learned: modules, optimizers and variables, as tensors beside pure data.

Which of them belong to an agent is what stable-baselines3 calls `_get_torch_save_params`. A module
or optimizer that hangs on the agent without being named there would be lost (sb3.md, T2), so the
save refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from vaerl.checkpoint.tensors import Tensors, join_aliases, pack, split_aliases, unpack
from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.jsonio import take

EXTRA = "_extra_state"  # torch's name for what a module's get_extra_state returns


class Parts:
    """The modules, optimizers and variables of an agent, by stable-baselines3's names for them."""

    def __init__(self, agent: BaseAlgorithm) -> None:
        states, variables = agent._get_torch_save_params()
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.variables: Tensors = {name: recursive_getattr(agent, name) for name in variables}
        for name in states:
            part = recursive_getattr(agent, name)
            part = getattr(part, "_orig_mod", part)  # what torch.compile wrapped
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
            value = getattr(value, "_orig_mod", value)
            if isinstance(value, nn.Module | torch.optim.Optimizer) and id(value) not in known:
                raise ValueError(
                    f"{type(agent).__name__}.{name} would be lost: _get_torch_save_params does not "
                    "name it"
                )

    def names(self) -> dict[int, str]:
        """Name of every tensor that an optimizer may hold, by id."""
        names = {id(tensor): name for name, tensor in self.variables.items()}
        for prefix, module in self.modules.items():
            for name, parameter in module.named_parameters():
                names.setdefault(id(parameter), f"{prefix}/{name}")
        return names


def capture_modules(parts: Parts) -> tuple[Tensors, dict[str, Any]]:
    """State dicts and variables as (tensors, {"aliases", "extra"}).

    Raises ValueError if a parameter is not finite: such an agent is no checkpoint to fall back on.
    """
    stored: Tensors = {}
    extra: dict[str, Any] = {}
    for prefix, module in parts.modules.items():
        for name, value in module.state_dict(keep_vars=True).items():
            key = f"{prefix}/{name}"
            if isinstance(value, torch.Tensor):
                if isinstance(value, nn.Parameter) and not bool(torch.isfinite(value).all()):
                    raise ValueError(f"parameter {key} is not finite; nothing saved")
                stored[key] = value.detach()
            else:
                extra[key] = pack(value, key, stored)
    for name, value in parts.variables.items():
        stored[f"variable/{name}"] = value.detach()
    tensors, aliases = split_aliases(stored)
    return tensors, {"aliases": aliases, "extra": extra}


def restore_modules(
    parts: Parts, tensors: Tensors, data: Any, where: str, exact: bool
) -> list[str]:
    """Put `capture_modules` back; names of what did not fit ([] when `exact`, which refuses)."""
    tensors = join_aliases(tensors, data.get("aliases"), f"{where}:aliases")
    extra = take(data, "extra", dict, where)
    used: set[str] = set()
    misfits: list[str] = []
    for prefix, module in parts.modules.items():
        state = {}
        for name, fresh in module.state_dict().items():
            key = f"{prefix}/{name}"
            used.add(key)
            if key in extra:
                state[name] = unpack(extra[key], tensors, f"{where}:extra:{key}")
                used |= {other for other in tensors if other.startswith(f"{key}/")}
            elif name.rpartition(".")[2] == EXTRA and key in tensors:
                state[name] = tensors[key]
            elif (problem := _misfit(tensors.get(key), fresh)) is not None:
                misfits.append(f"{key}: {problem}")
                state[name] = fresh
            else:
                state[name] = tensors[key]
        if exact and misfits:
            break
        module.load_state_dict(state)
    for name, variable in parts.variables.items():
        key = f"variable/{name}"
        used.add(key)
        if (problem := _misfit(tensors.get(key), variable)) is not None:
            misfits.append(f"{key}: {problem}")
        else:
            variable.data.copy_(tensors[key])  # in place: its optimizer holds this very tensor
    misfits += [f"{key}: the agent has none" for key in [*tensors, *extra] if key not in used]
    if exact and misfits:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        raise VaerlLoadError(f"{where}: {misfits[0]}{more}")
    return misfits


def _misfit(stored: torch.Tensor | None, fresh: Any) -> str | None:
    if stored is None:
        return "missing"
    if not isinstance(fresh, torch.Tensor):
        return "a tensor, where the agent keeps none"
    if stored.shape != fresh.shape or stored.dtype != fresh.dtype:
        return (
            f"{list(stored.shape)} of {stored.dtype}; "
            f"the agent expects {list(fresh.shape)} of {fresh.dtype}"
        )
    if stored.is_floating_point() and bool(torch.isnan(stored).any()):
        return "holds NaN"
    return None


def capture_optimizers(parts: Parts) -> tuple[Tensors, dict[str, Any]]:
    """Optimizer states by parameter name, as (tensors, {optimizer: {"groups", "state"}})."""
    names = parts.names()
    tensors: Tensors = {}
    data: dict[str, Any] = {}
    for label, optimizer in parts.optimizers.items():
        groups = []
        for index, group in enumerate(optimizer.param_groups):
            settings = {
                key: pack(value, f"{label}/group{index}/{key}", tensors)
                for key, value in group.items()
                if key != "params"
            }
            members = [_name(parameter, names, label) for parameter in group["params"]]
            groups.append({"params": members, "settings": settings})
        state = {
            name: {k: pack(v, f"{label}/{name}/{k}", tensors) for k, v in values.items()}
            for name, values in (
                (_name(parameter, names, label), optimizer.state[parameter])
                for parameter in _members(optimizer)
                if parameter in optimizer.state
            )
        }
        data[label] = {"groups": groups, "state": state}
    return tensors, data


def restore_optimizers(parts: Parts, tensors: Tensors, data: Any, where: str) -> None:
    """Put `capture_optimizers` back; the parameters must be the same, in the same order."""
    names = parts.names()
    for label, optimizer in parts.optimizers.items():
        place = f"{where}:{label}"
        stored = take(data, label, dict, where)
        groups = take(stored, "groups", list, place)
        if len(groups) != len(optimizer.param_groups):
            raise VaerlLoadError(
                f"{place}: {len(groups)} groups; the agent has {len(optimizer.param_groups)}"
            )
        restored = []
        index = 0
        for group, fresh in zip(groups, optimizer.param_groups, strict=True):
            wanted = [_name(parameter, names, label) for parameter in fresh["params"]]
            if take(group, "params", list, place) != wanted:
                raise VaerlLoadError(f"{place}: its parameters are not those of the agent")
            settings = take(group, "settings", dict, place)
            members = list(range(index, index + len(wanted)))
            index += len(wanted)
            restored.append({"params": members, **_settings(settings, fresh, tensors, place)})
        state: dict[int, dict[str, Any]] = {}
        values = take(stored, "state", dict, place)
        for number, parameter in enumerate(_members(optimizer)):
            name = _name(parameter, names, label)
            if name in values:
                state[number] = _entry(values[name], parameter, tensors, f"{place}:{name}")
        optimizer.load_state_dict({"state": state, "param_groups": restored})


def _settings(
    settings: dict[str, Any], fresh: dict, tensors: Tensors, where: str
) -> dict[str, Any]:
    expected = {key for key in fresh if key != "params"}
    if set(settings) != expected:
        odd = sorted(set(settings) ^ expected)[0]
        raise VaerlLoadError(f"{where}: setting {odd[:60]!r} is missing or unknown")
    result = {}
    for key, packed in settings.items():
        value = unpack(packed, tensors, f"{where}:{key}")
        was = fresh[key]
        if isinstance(was, tuple) and isinstance(value, list):
            value = tuple(value)
        if was is not None and value is not None and not _alike(value, was):
            raise VaerlLoadError(f"{where}:{key}: {ascii(value)[:60]}; expected one like {was!r}")
        result[key] = value
    return result


def _alike(value: Any, fresh: Any) -> bool:
    """Whether `value` is of the kind of `fresh`: bool, number, pair of numbers, text."""
    if isinstance(fresh, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(fresh)
            and all(_alike(v, f) for v, f in zip(value, fresh, strict=True))
        )
    if isinstance(fresh, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(fresh, bool)
    numbers = (int, float, torch.Tensor)
    return isinstance(value, numbers if isinstance(fresh, numbers) else type(fresh))


def _entry(data: Any, parameter: torch.Tensor, tensors: Tensors, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise VaerlLoadError(f"{where}: expected an object")
    entry = {}
    for key, packed in data.items():
        value = unpack(packed, tensors, f"{where}:{key}")
        if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
            raise VaerlLoadError(
                f"{where}:{key}: shape {list(value.shape)}; expected {list(parameter.shape)}"
            )
        entry[key] = value
    return entry


def _members(optimizer: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _name(parameter: torch.Tensor, names: dict[int, str], label: str) -> str:
    try:
        return names[id(parameter)]
    except KeyError:
        raise ValueError(
            f"{label} steps a tensor of shape {list(parameter.shape)} that no saved module holds"
        ) from None
