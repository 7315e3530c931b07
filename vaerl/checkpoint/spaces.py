"""Gymnasium spaces as pure data, so that a checkpoint can be rebuilt without its environment.

What stable-baselines3 can learn on: Box, Discrete, MultiDiscrete, MultiBinary, and a Dict of these.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from vaerl.disk.errors import VaerlLoadError, one_line
from vaerl.disk.jsonio import take

DTYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
MAX_ELEMENTS = 2**24
_LEGAL = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these"


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Describe a space; ValueError names one that a checkpoint cannot hold.

    >>> space_to_json(spaces.Box(-1.0, 1.0, (2,)))
    {'type': 'Box', 'shape': [2], 'dtype': 'float32', 'low': -1.0, 'high': 1.0}
    """
    if isinstance(space, spaces.Dict):
        parts = [[str(key), space_to_json(part)] for key, part in space.spaces.items()]
        return {"type": "Dict", "spaces": parts}
    dtype = str(space.dtype)
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "shape": list(space.shape),
            "dtype": dtype,
            "low": _bounds(space.low),
            "high": _bounds(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "dtype": dtype}
    if isinstance(space, spaces.MultiBinary):
        count = space.n if isinstance(space.n, int) else [int(n) for n in space.n]
        return {"type": "MultiBinary", "n": count}
    raise ValueError(one_line(f"space {space} cannot go into a checkpoint; legal are {_LEGAL}"))


def space_from_json(data: Any, where: str) -> spaces.Space:
    """Build the space that `space_to_json` described; VaerlLoadError names what is wrong.

    >>> space_from_json(space_to_json(spaces.Discrete(3)), "manifest.json")
    Discrete(3)
    """
    kind = take(data, "type", str, where)
    if kind == "Dict":
        parts = take(data, "spaces", list, where)
        if not 1 <= len(parts) <= 256:
            raise VaerlLoadError(f"{where}:spaces: {len(parts)} of them; expected 1 to 256")
        built: dict[str, spaces.Space] = {}
        for index, part in enumerate(parts):
            place = f"{where}:spaces[{index}]"
            if not (isinstance(part, list) and len(part) == 2 and isinstance(part[0], str)):
                raise VaerlLoadError(f"{place}: expected a pair [key, space]")
            if part[0] in built or (isinstance(part[1], dict) and part[1].get("type") == "Dict"):
                raise VaerlLoadError(f"{place}: a key twice, or a Dict inside a Dict")
            built[part[0]] = space_from_json(part[1], place)
        if sum(math.prod(s.shape or ()) for s in built.values()) > MAX_ELEMENTS:
            raise VaerlLoadError(f"{where}: more than {MAX_ELEMENTS} elements")
        return spaces.Dict(list(built.items()))  # pairs keep their order
    if kind == "Box":
        return _box(data, where)
    if kind == "Discrete":
        count = take(data, "n", int, where, 1, 2**31)
        start = take(data, "start", int, where, -(2**31), 2**31)
        return spaces.Discrete(count, start=start, dtype=_dtype(data, where, "iu"))
    if kind == "MultiDiscrete":
        counts = take(data, "nvec", list, where)
        if not 1 <= len(counts) <= 2**16 or any(
            type(count) is not int or not 1 <= count <= 2**31 for count in counts
        ):
            raise VaerlLoadError(f"{where}:nvec: expected integers from 1 to {2**31}")
        return spaces.MultiDiscrete(counts, dtype=_dtype(data, where, "iu"))
    if kind == "MultiBinary":
        if isinstance(data.get("n"), list):
            return spaces.MultiBinary(_shape(data, where, "n"))
        return spaces.MultiBinary(take(data, "n", int, where, 1, MAX_ELEMENTS))
    raise VaerlLoadError(f"{where}:type: {kind[:40]!r}; expected {_LEGAL}")


def _bounds(values: np.ndarray) -> Any:
    """One number where all are equal, else the flat list; infinities as text."""
    infinite = {math.inf: "inf", -math.inf: "-inf"}
    flat = [infinite.get(number, number) for number in values.ravel().tolist()]
    return flat[0] if flat and all(v == flat[0] for v in flat) else flat


def _box(data: Any, where: str) -> spaces.Box:
    shape = _shape(data, where)
    dtype = _dtype(data, where, "fiu")
    size = int(np.prod(shape))
    bounds = []
    for key in ("low", "high"):
        value = data.get(key)
        values = value if isinstance(value, list) else [value]
        if len(values) not in (1, size):
            raise VaerlLoadError(f"{where}:{key}: {len(values)} numbers; expected 1 or {size}")
        numbers = [_bound(v, f"{where}:{key}") for v in values]
        if dtype.kind != "f":
            info = np.iinfo(dtype)
            if any(type(n) is not int or not info.min <= n <= info.max for n in numbers):
                raise VaerlLoadError(f"{where}:{key}: expected integers within {dtype}")
        full = np.full(shape, numbers[0], dtype) if len(numbers) == 1 else None
        bounds.append(full if full is not None else np.array(numbers, dtype).reshape(shape))
    if not (bounds[0] <= bounds[1]).all():
        raise VaerlLoadError(f"{where}: low exceeds high")
    return spaces.Box(bounds[0], bounds[1], shape, dtype.type)


def _bound(value: Any, where: str) -> int | float:
    if value in ("inf", "-inf"):
        return float(value)
    if type(value) not in (int, float):
        raise VaerlLoadError(f"{where}: {one_line(ascii(value), 60)}; expected a number")
    return value


def _shape(data: Any, where: str, key: str = "shape") -> tuple[int, ...]:
    shape = take(data, key, list, where)
    if len(shape) > 8 or any(type(n) is not int or not 0 < n <= MAX_ELEMENTS for n in shape):
        raise VaerlLoadError(
            f"{where}:{key}: {one_line(ascii(shape), 60)}; expected at most 8 positive integers"
        )
    if math.prod(shape) > MAX_ELEMENTS:
        raise VaerlLoadError(f"{where}:{key}: more than {MAX_ELEMENTS} elements")
    return tuple(shape)


def _dtype(data: Any, where: str, kinds: str) -> np.dtype:
    name = take(data, "dtype", str, where)
    if name not in DTYPES or np.dtype(name).kind not in kinds:
        raise VaerlLoadError(f"{where}:dtype: {name[:40]!r} does not fit this space")
    return np.dtype(name)
