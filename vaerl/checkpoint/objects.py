"""The state of Python objects, such as an environment with its wrappers, as plain data and arrays.

`capture` reads the attributes of an object and of the objects that they refer to; `restore` writes
them into another object of the same build. Only numbers, texts, arrays, random generators,
containers of these, and MuJoCo's structures count. Nothing in stored data is run or imported: it
sets attributes of objects that exist already.
"""

from __future__ import annotations

import enum
import math
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

CONTAINERS: dict[str, type] = {"list": list, "tuple": tuple, "deque": deque, "set": set}
GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
CONSTANT = (
    *(type, enum.Enum, EnvSpec, bytes, range, slice, np.dtype, types.ModuleType),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc),
)
"""What has no state that a step of an environment changes."""
HISTORY = {"t_start", "episode_returns", "episode_lengths", "episode_times"}
"""Attributes of SB3's Monitor that grow with the run and decide nothing."""
DEEPEST = 32
REMADE = ("efc_", "iefc_", "efm_")
"""Arrays of constraints, which every step writes anew into memory that is not cleared."""
LARGEST = 2**16
"""Bytes of an array of an `MjModel` above which it is a mesh or a texture."""


class Lost(ValueError):
    """Something whose state cannot be read or written; the message names it."""


def capture(thing: Any, skip: frozenset[str] = frozenset()) -> Any:
    """The state of an object.

    Args:
        thing: object, or a value.
        skip: attributes of the object itself to leave out.

    Raises:
        Lost: at something of unknown kind.

    >>> class Clock:
    ...     def __init__(self, time):
    ...         self.time, self.random = time, np.random.default_rng(time)
    >>> state, other = capture(Clock(3)), Clock(0)
    >>> _ = restore(other, state)
    >>> other.time, bool(other.random.random() == Clock(3).random.random())
    (3, True)
    """
    return _Capture().read(thing, "", skip)


class _Capture:
    """One walk through the objects; each is read once."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}  # keeps what it has seen alive, so that ids stay unique

    def read(self, thing: Any, path: str, skip: frozenset[str] = frozenset()) -> Any:
        if thing is None or isinstance(thing, bool | str) or type(thing) is int:
            return thing
        if type(thing) is float:
            return thing if math.isfinite(thing) else {"is": "float", "array": np.array(thing)}
        if isinstance(thing, np.generic) and thing.dtype.kind in "biuf":
            return {"is": "scalar", "array": np.asarray(thing)}
        if isinstance(thing, torch.Tensor):
            return {"is": "tensor", "array": thing.detach().cpu().numpy().copy()}
        if isinstance(thing, np.ndarray) and thing.dtype.kind in "biuf":
            return {"is": "array", "array": thing.copy()}
        for kind, cls in CONTAINERS.items():
            if isinstance(thing, cls):
                inside: Any = thing
                items = [self.read(item, f"{path}[{i}]") for i, item in enumerate(inside)]
                return {"is": kind, "items": items}
        if isinstance(thing, dict):
            return {
                "is": "dict",
                "keys": [self.read(key, path) for key in thing],
                "items": [self.read(item, f"{path}[{key!r}]") for key, item in thing.items()],
            }
        if isinstance(thing, CONSTANT) or (callable(thing) and not hasattr(thing, "__dict__")):
            return {"is": "constant"}
        if id(thing) in self.seen:
            return {"is": "seen"}
        self.seen[id(thing)] = thing
        if len(path) > 4000 or path.count(".") > DEEPEST:
            raise Lost(f"{path[:60]}…: nested too deeply")
        return self._read_object(thing, path, skip)

    def _read_object(self, thing: Any, path: str, skip: frozenset[str]) -> Any:
        if isinstance(thing, np.random.Generator):
            return {"is": "generator", "state": _plain(thing.bit_generator.state)}
        if isinstance(thing, np.random.RandomState):
            return {"is": "legacy", "state": _plain(thing.get_state(legacy=False))}
        if isinstance(thing, random.Random):
            version, words, gauss = thing.getstate()
            return {"is": "python", "version": version, "array": np.array(words), "gauss": gauss}
        if isinstance(thing, torch.Generator):
            return {"is": "torch", "array": thing.get_state().numpy().copy()}
        if type(thing).__module__.startswith("mujoco."):
            return _read_mujoco(thing, path)
        if not hasattr(thing, "__dict__"):
            raise Lost(f"{path.lstrip('.')} ({type(thing).__name__})")
        fields = {
            name: self.read(value, f"{path}.{name}")
            for name, value in vars(thing).items()
            if name not in skip and name not in HISTORY
        }
        return {"is": "object", "class": type(thing).__name__, "fields": fields}


def restore(old: Any, state: Any) -> Any:
    """The value that was captured; objects and generators are changed in place and returned.

    Args:
        old: what stands in its place, of the same build.
        state: from `capture`, its arrays as arrays or tensors.

    Raises:
        Lost: `old` is of another build.
    """
    if not isinstance(state, dict):
        return state
    kind = state["is"]
    if kind in ("constant", "seen"):
        return old
    if kind in CONTAINERS:
        return _restore_container(old, state)
    if kind == "dict":
        keys = [restore(None, key) for key in state["keys"]]
        before = old if isinstance(old, dict) else {}
        pairs = zip(keys, state["items"], strict=True)
        found = {key: restore(before.get(key), item) for key, item in pairs}
        return found if type(old) in (dict, type(None)) else _refill(old, found)
    if kind == "object":
        if type(old).__name__ != state["class"] or not hasattr(old, "__dict__"):
            raise Lost(f"{type(old).__name__}, expected {state['class']}")
        for name, value in state["fields"].items():
            try:
                vars(old)[name] = restore(vars(old).get(name), value)
            except Lost as error:
                raise Lost(f"{name}: {error}") from None
        return old
    return _restore_leaf(old, state)


def _restore_container(old: Any, state: dict[str, Any]) -> Any:
    kind = CONTAINERS[state["is"]]
    before = list(old) if isinstance(old, list | tuple | deque) else []
    before += [None] * (len(state["items"]) - len(before))
    items = [restore(was, item) for was, item in zip(before, state["items"], strict=False)]
    if isinstance(old, deque):
        return deque(items, old.maxlen)
    if isinstance(old, tuple) and hasattr(old, "_fields") and len(old) == len(items):
        return type(old)(*items)
    return kind(items)


def _refill(old: Any, found: dict[Any, Any]) -> Any:
    """A kind of dict, such as an OrderedDict, with other entries."""
    if not isinstance(old, dict):
        return found
    old.clear()
    old.update(found)
    return old


def _restore_leaf(old: Any, state: dict[str, Any]) -> Any:
    kind = state["is"]
    if kind == "mujoco":
        return _write_mujoco(old, state)
    if kind == "generator":
        name = state["state"]["bit_generator"]
        if name not in GENERATORS:
            raise Lost(f"a generator {name!r}")
        if getattr(getattr(old, "bit_generator", None), "state", {}).get("bit_generator") != name:
            old = np.random.Generator(getattr(np.random, name)())
        old.bit_generator.state = _filled(old.bit_generator.state, state["state"])
        return old
    if kind == "legacy":
        old = old if isinstance(old, np.random.RandomState) else np.random.RandomState()
        old.set_state(_filled(old.get_state(legacy=False), state["state"]))
        return old
    array = np.asarray(state["array"])
    if kind == "python":
        old = old if isinstance(old, random.Random) else random.Random()
        old.setstate((state["version"], tuple(array.tolist()), state["gauss"]))
        return old
    if kind == "float":
        return float(array)
    if kind == "scalar":
        return array[()]
    if kind == "torch":
        old = old if isinstance(old, torch.Generator) else torch.Generator()
        old.set_state(torch.as_tensor(array.copy()))
        return old
    if kind == "tensor":
        return _restore_tensor(old, torch.as_tensor(array.copy()))
    view = isinstance(old, np.ndarray) and old.base is not None and old.flags.writeable
    if view and (old.shape, old.dtype) == (array.shape, array.dtype):  # of memory held elsewhere
        old[...] = array
        return old
    return array.copy()


@torch.no_grad()
def _restore_tensor(old: Any, tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(old, torch.Tensor) and (old.shape, old.dtype) == (tensor.shape, tensor.dtype):
        return old.copy_(tensor)
    return tensor.to(old.device) if isinstance(old, torch.Tensor) else tensor


def _read_mujoco(thing: Any, path: str) -> Any:
    """All arrays of an MjData or MjModel in one row of bytes, and the numbers that can be set.

    MuJoCo's own state is not enough: Ant and Humanoid read arrays that lag it by one substep.
    """
    if type(thing).__name__ not in ("MjData", "MjModel"):
        return {"is": "constant"}
    arrays = dict(_arrays(thing))
    data = b"".join(array.tobytes() for array in arrays.values())
    return {
        "is": "mujoco",
        "class": type(thing).__name__,
        "names": list(arrays),
        "sizes": [array.nbytes for array in arrays.values()],
        "array": np.frombuffer(data, np.uint8).copy(),
        "time": getattr(thing, "time", None),
    }


def _write_mujoco(old: Any, state: dict[str, Any]) -> Any:
    if type(old).__name__ != state["class"]:
        raise Lost(f"{type(old).__name__}, expected {state['class']}")
    data, start, known = np.asarray(state["array"]).tobytes(), 0, dict(_arrays(old))
    for name, size in zip(state["names"], state["sizes"], strict=True):
        array = known.get(name)
        if array is not None and array.nbytes == size:  # some vary with the contacts
            values = np.frombuffer(data[start : start + size], array.dtype)
            array[...] = values.reshape(array.shape)
        start += size
    if state["time"] is not None:
        old.time = state["time"]
    return old


def _arrays(thing: Any) -> Iterator[tuple[str, np.ndarray]]:
    for name in dir(thing):
        value = None if name.startswith(("_", *REMADE)) else getattr(thing, name)
        if isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes <= LARGEST:
            yield name, value


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a generator with its numbers as texts, since some are of 128 bits."""
    return {
        key: _plain(value)
        if isinstance(value, dict)
        else {"array": value.astype(np.int64)}
        if isinstance(value, np.ndarray)
        else value
        if isinstance(value, str | float)
        else str(int(value))
        for key, value in state.items()
    }


def _filled(fresh: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """The state of a generator, in the types of a fresh one."""
    found: dict[str, Any] = {}
    for key, was in fresh.items():
        value = stored[key]
        if isinstance(was, np.ndarray):
            found[key] = np.asarray(value["array"]).astype(was.dtype).reshape(was.shape)
        elif isinstance(was, dict):
            found[key] = _filled(was, value)
        else:
            found[key] = value if isinstance(was, str | float) else int(value)
    return found
