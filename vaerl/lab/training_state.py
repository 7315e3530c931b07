"""The state of a training as one file: parameters, optimisers, and plain data beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaerl.checkpoint.tensors import Tensors, from_bytes, pack, to_bytes, unpack
from vaerl.disk import files, jsonio

Optimisers = Sequence[torch.optim.Optimizer]


def save_state(
    path: Path, module: nn.Module, optimisers: Optimisers, data: Mapping[str, Any]
) -> None:
    """Write all of it as one file, replacing the one before at once."""
    tensors: Tensors = {}
    states = [
        {str(key): value for key, value in optimiser.state_dict()["state"].items()}
        for optimiser in optimisers
    ]
    record = {
        **data,
        "parameters": pack(dict(module.state_dict()), "parameters", tensors),
        "optimisers": pack(states, "optimisers", tensors),
    }
    text = jsonio.dumps(record).encode()
    tensors["json"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    files.write_bytes(path, to_bytes(tensors))


def load_state(
    path: Path,
    module: nn.Module,
    optimisers: Optimisers,
    check: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any] | None:
    """Put a saved state into module and optimisers and give its data; None where there is none.

    `check` looks at the data first, and raises where the state is of another training.
    """
    if not path.exists():
        return None
    where = str(path)
    try:
        tensors = from_bytes(path.read_bytes(), where)
        data: dict[str, Any] = jsonio.loads(tensors.pop("json").numpy().tobytes(), where)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{where}: no state of a training ({error}); delete it") from error
    check(data)
    module.load_state_dict(unpack(data["parameters"], tensors, where))
    states = unpack(data["optimisers"], tensors, where)
    for optimiser, state in zip(optimisers, states, strict=True):
        whole = optimiser.state_dict()
        whole["state"] = {int(key): value for key, value in state.items()}
        optimiser.load_state_dict(whole)
    return data
