"""Tensors as safetensors bytes and back; trees of tensors and plain data as JSON beside them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError

Tensors = dict[str, torch.Tensor]


def to_bytes(tensors: Tensors) -> bytes:
    """Return tensors as one safetensors file; those that share memory are each written out."""
    plain: Tensors = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        stored = tensor.detach().cpu().contiguous()
        memory = stored.untyped_storage().data_ptr()
        plain[name] = stored.clone() if memory in seen else stored
        seen.add(memory)
    return safetensors_torch.save(plain)


def from_bytes(data: bytes, where: str) -> Tensors:
    """Parse a safetensors file; VaerlLoadError unless header, shapes and bytes agree exactly.

    safetensors itself refuses unknown dtypes, holes and overlaps between tensors, and shapes that
    do not fit their bytes.
    """
    try:
        return safetensors_torch.load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, OverflowError) as error:
        raise VaerlLoadError(f"{where}: not safetensors: {error}") from None


def pack(value: Any, name: str, tensors: Tensors, stored: dict[Hashable, str] | None = None) -> Any:
    """Return a tree of tensors and plain data as plain data; its tensors go into `tensors`.

    Tensors of one tree that share their memory, as in a shared extractor, go there once.

    Raises ValueError, starting with `name`, at anything else.

    >>> tensors: Tensors = {}
    >>> pack({"lr": 0.1, "step": torch.ones(2)}, "adam", tensors)
    {'items': {'lr': 0.1, 'step': {'tensor': 'adam/step'}}}
    >>> list(tensors)
    ['adam/step']
    """
    stored = {} if stored is None else stored  # names by memory
    if isinstance(value, torch.Tensor):
        name = stored.setdefault(_memory(value), name)
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        items = value.items()
        return {"items": {key: pack(v, f"{name}/{key}", tensors, stored) for key, v in items}}
    if isinstance(value, list | tuple):
        return [pack(item, f"{name}/{i}", tensors, stored) for i, item in enumerate(value)]
    jsonio.dumps(value, where=name)
    return value


def _memory(tensor: torch.Tensor) -> Hashable:
    """Return a key that is equal for tensors that share all of their memory."""
    if not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def unpack(data: Any, tensors: Tensors, where: str, used: set[str] | None = None) -> Any:
    """Undo `pack` (tuples come back as lists); VaerlLoadError for anything that it cannot return.

    The names of the tensors found are added to `used`.

    >>> unpack({"items": {"lr": 0.1}}, {}, "state")
    {'lr': 0.1}
    """
    used = set() if used is None else used
    if isinstance(data, list):
        return [unpack(item, tensors, where, used) for item in data]
    if isinstance(data, dict):
        if set(data) == {"tensor"} and data["tensor"] in tensors:
            used.add(data["tensor"])
            return tensors[data["tensor"]]
        if set(data) == {"items"} and isinstance(data["items"], dict):
            items = data["items"].items()
            return {key: unpack(value, tensors, where, used) for key, value in items}
        raise VaerlLoadError(f"{where}: {ascii(data)[:80]} is neither a tensor nor a tree of them")
    return data
