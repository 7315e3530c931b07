"""The filled part of a replay buffer as tensors, in files of bounded size."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from vaerl.checkpoint.tensors import Tensors
from vaerl.finite import all_finite, first_bad

CHUNK_BYTES = 2**28


def capture_replay(buffer: ReplayBuffer) -> tuple[list[Tensors], dict[str, Any]]:
    """Return the rows in use as chunks of at most `CHUNK_BYTES`, and where they belong.

    Raises ValueError for a buffer that holds objects (HER with copied infos).
    """
    arrays = _arrays(buffer)
    rows = _rows(buffer)
    wide = sorted(name for name, array in arrays.items() if _is_ring(array, buffer))
    step = max(1, CHUNK_BYTES // max(1, sum(arrays[name][:1].nbytes for name in wide)))
    chunks = [
        {name: _tensor(arrays[name][start : min(rows, start + step)]) for name in wide}
        for start in range(0, rows, step)
    ]
    chunks.append({name: _tensor(array) for name, array in arrays.items() if name not in wide})
    state = {"rows": rows, "pos": int(buffer.pos), "full": bool(buffer.full), **_size(buffer)}
    return [chunk for chunk in chunks if chunk], state


def restore_replay(
    buffer: ReplayBuffer, chunks: list[Tensors], state: dict[str, Any], continues: bool = False
) -> None:
    """Load what `capture_replay` returned into a fresh buffer of the same size.

    Unless the environment `continues` its episode, an unfinished one in the buffer is closed, so
    that no sample joins it to the next.

    Raises ValueError if the buffers differ.
    """
    rows, pos, full = state["rows"], state["pos"], state["full"]
    size = {name: state[name] for name in _size(buffer)}
    if size != _size(buffer):
        raise ValueError(f"replay buffer: got {size}, the agent has {_size(buffer)}")
    if not (type(rows) is type(pos) is int and 0 <= rows <= buffer.buffer_size > pos >= 0):
        raise ValueError(f"replay buffer: got {rows} rows and position {pos}, expected ones inside")
    arrays = _arrays(buffer)
    filled = dict.fromkeys(arrays, 0)
    for tensors in chunks:
        for name, tensor in tensors.items():
            array, values = arrays[name], tensor.numpy()
            start = filled[name] if _is_ring(array, buffer) else 0
            target = array[start : start + len(values)]
            if (target.shape, target.dtype) != (values.shape, values.dtype):
                raise ValueError(f"{name}: got {values.dtype} {values.shape}, expected {target}")
            if not all_finite(values):
                row = start + first_bad(values)[0]
                raise ValueError(f"replay buffer: row {row} of {name} holds NaN or infinity")
            target[...] = values
            filled[name] = start + len(values)
    for name, array in arrays.items():
        expected = rows if _is_ring(array, buffer) else len(array)
        if filled[name] != expected:
            raise ValueError(f"{name}: got {filled[name]} rows, expected {expected}")
    buffer.pos, buffer.full = pos, bool(full)
    if continues or buffer.size() == 0:
        return
    last = (pos - 1) % buffer.buffer_size
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it truncates
            buffer.truncate_last_trajectory()
    elif isinstance(buffer, NStepReplayBuffer):
        buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], buffer.dones[last] == 0)
    elif buffer.optimize_memory_usage:
        buffer.dones[last] = 1


def _size(buffer: ReplayBuffer) -> dict[str, int]:
    return {"buffer_size": int(buffer.buffer_size), "n_envs": int(buffer.n_envs)}


def _rows(buffer: ReplayBuffer) -> int:
    extra = int(buffer.optimize_memory_usage)  # there the row after the last holds its next state
    return min(buffer.size() + extra, buffer.buffer_size)


def _is_ring(array: np.ndarray, buffer: ReplayBuffer) -> bool:
    return array.ndim >= 2 and len(array) == buffer.buffer_size


def _arrays(buffer: ReplayBuffer) -> dict[str, np.ndarray]:
    found = {}
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        for key, array in parts.items():
            if not isinstance(array, np.ndarray):
                continue
            label = f"{name}/{key}" if key else name
            if array.dtype != object:
                found[label] = array
            elif any(array[: _rows(buffer)].ravel()):
                raise ValueError(f"replay buffer: {label} holds objects, which are not saved")
    return found


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
