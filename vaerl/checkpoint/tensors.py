"""Tensors as safetensors bytes and back; trees of tensors and plain data as JSON beside them."""

from __future__ import annotations

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


def pack(value: Any, name: str, tensors: Tensors) -> Any:
    """Return a tree of tensors and plain data as plain data; its tensors go into `tensors`.

    Raises ValueError, starting with `name`, at anything else.

    >>> tensors: Tensors = {}
    >>> pack({"lr": 0.1, "step": torch.ones(2)}, "adam", tensors)
    {'items': {'lr': 0.1, 'step': {'tensor': 'adam/step'}}}
    >>> list(tensors)
    ['adam/step']
    """
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"items": {key: pack(v, f"{name}/{key}", tensors) for key, v in value.items()}}
    if isinstance(value, list | tuple):
        return [pack(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    jsonio.dumps(value, where=name)
    return value


def unpack(data: Any, tensors: Tensors, where: str) -> Any:
    """Undo `pack` (tuples come back as lists); VaerlLoadError for anything that it cannot return.

    >>> unpack({"items": {"lr": 0.1}}, {}, "state")
    {'lr': 0.1}
    """
    if isinstance(data, list):
        return [unpack(item, tensors, where) for item in data]
    if isinstance(data, dict):
        if set(data) == {"tensor"} and data["tensor"] in tensors:
            return tensors[data["tensor"]]
        if set(data) == {"items"} and isinstance(data["items"], dict):
            return {key: unpack(value, tensors, where) for key, value in data["items"].items()}
        raise VaerlLoadError(f"{where}: {ascii(data)[:80]} is neither a tensor nor a tree of them")
    return data
