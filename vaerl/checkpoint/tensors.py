"""Tensors as safetensors bytes and back, every number of the header checked before it is used."""

from __future__ import annotations

import math
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.jsonio import take

HEADER_LIMIT = 2**24  # bytes; a thousand tensors need about 2**17
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1}
SIZES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}

Tensors = dict[str, torch.Tensor]
Aliases = dict[str, str]


def to_bytes(tensors: Tensors) -> bytes:
    """Tensors as one safetensors file; of those that share memory, each gets its own copy."""
    plain: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        stored = tensor.detach().cpu().contiguous()
        memory = stored.untyped_storage().data_ptr()
        plain[name] = stored.clone() if memory in seen else stored
        seen.add(memory)
    return safetensors_torch.save(plain)


def split_aliases(tensors: Tensors) -> tuple[Tensors, Aliases]:
    """Keep each stored tensor once; (kept, {name: the kept name of the same memory}).

    Shared extractors put one tensor under several names of a state dict.

    >>> weight = torch.zeros(2)
    >>> kept, aliases = split_aliases({"pi.w": weight, "vf.w": weight})
    >>> list(kept), aliases
    (['pi.w'], {'vf.w': 'pi.w'})
    """
    kept: Tensors = {}
    aliases: Aliases = {}
    first: dict[tuple, str] = {}
    for name, tensor in tensors.items():
        place = (
            tensor.device,
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )
        if tensor.numel() and place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            kept[name] = tensor
    return kept, aliases


def join_aliases(tensors: Tensors, aliases: Any, where: str) -> Tensors:
    """Undo `split_aliases`; VaerlLoadError for an alias that points nowhere or hides a tensor."""
    joined = dict(tensors)
    if not isinstance(aliases, dict):
        raise VaerlLoadError(f"{where}: expected an object")
    for name, target in aliases.items():
        if not isinstance(target, str) or target not in tensors:
            raise VaerlLoadError(f"{where}:{name}: {ascii(target)[:80]} is no stored tensor")
        if name in tensors:
            raise VaerlLoadError(f"{where}:{name}: stored, and an alias as well")
        joined[name] = tensors[target]
    return joined


def from_bytes(data: bytes, where: str) -> Tensors:
    """Parse a safetensors file; VaerlLoadError unless header, shapes and bytes agree exactly."""
    _check_header(data, where)
    try:
        return safetensors_torch.load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, OverflowError) as error:
        raise VaerlLoadError(f"{where}: not safetensors: {error}") from None


def _check_header(data: bytes, where: str) -> None:
    if len(data) < 8:
        raise VaerlLoadError(f"{where}: {len(data)} bytes are no safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > HEADER_LIMIT:
        raise VaerlLoadError(f"{where}: a header of {length} bytes; at most {HEADER_LIMIT}")
    if 8 + length > len(data):
        raise VaerlLoadError(f"{where}: the header is cut off")
    header = jsonio.loads(data[8 : 8 + length], f"{where}:header", HEADER_LIMIT)
    if not isinstance(header, dict):
        raise VaerlLoadError(f"{where}:header: expected an object")
    payload = len(data) - 8 - length
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        place = f"{where}:{name}"
        dtype = take(entry, "dtype", str, place)
        shape = take(entry, "shape", list, place)
        offsets = take(entry, "data_offsets", list, place)
        if dtype not in SIZES:
            raise VaerlLoadError(f"{place}: dtype {dtype[:20]!r}; expected {', '.join(SIZES)}")
        if any(type(n) is not int or n < 0 for n in shape):
            raise VaerlLoadError(f"{place}: shape {ascii(shape)[:60]}; expected integers >= 0")
        if len(offsets) != 2 or any(type(n) is not int or n < 0 for n in offsets):
            raise VaerlLoadError(f"{place}: data_offsets {ascii(offsets)[:60]}")
        if math.prod(shape) * SIZES[dtype] != offsets[1] - offsets[0] or offsets[1] > payload:
            raise VaerlLoadError(f"{place}: shape {shape} of {dtype} does not fit {offsets}")
        spans.append((offsets[0], offsets[1]))
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise VaerlLoadError(f"{where}: tensors overlap, or leave a hole, at byte {start}")
        end = stop
    if end != payload:
        raise VaerlLoadError(f"{where}: {payload - end} bytes belong to no tensor")


def pack(value: Any, name: str, tensors: Tensors) -> Any:
    """Pure data of `value`, a tree of tensors and pure data; the tensors go into `tensors`.

    Raises ValueError, starting with `name`, at anything else.
    """
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"items": {key: pack(v, f"{name}/{key}", tensors) for key, v in value.items()}}
    if isinstance(value, list | tuple):
        return [pack(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    jsonio.check_pure(value, name)
    return value


def unpack(data: Any, tensors: Tensors, where: str) -> Any:
    """Undo `pack` (tuples come back as lists)."""
    if isinstance(data, list):
        return [unpack(item, tensors, where) for item in data]
    if isinstance(data, dict):
        if set(data) == {"tensor"} and data["tensor"] in tensors:
            return tensors[data["tensor"]]
        if set(data) == {"items"} and isinstance(data["items"], dict):
            return {key: unpack(value, tensors, where) for key, value in data["items"].items()}
        raise VaerlLoadError(f"{where}: {ascii(data)[:80]} is no tensor and no tree of them")
    return data
