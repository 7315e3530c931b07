"""A replay buffer's filled part as tensors, in files of bounded size."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from vaerl.checkpoint.tensors import Tensors
from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.jsonio import take

CHUNK_BYTES = 2**28


def capture_replay(buffer: ReplayBuffer) -> tuple[list[Tensors], dict[str, Any]]:
    """The rows in use as chunks of at most `CHUNK_BYTES`, and where they belong.

    Raises ValueError for a buffer that holds objects (HER with copied infos).
    """
    arrays = _arrays(buffer)
    rows = _rows(buffer)
    wide = {name for name, array in arrays.items() if _is_ring(array, buffer)}
    row_bytes = sum(arrays[name][:1].nbytes for name in wide)
    step = max(1, CHUNK_BYTES // max(row_bytes, 1))
    chunks = []
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        chunks.append({name: _tensor(arrays[name][start:stop]) for name in sorted(wide)})
    whole = {name: _tensor(array) for name, array in arrays.items() if name not in wide}
    if whole or not chunks:
        chunks.append(whole)
    data = {
        "rows": rows,
        "pos": int(buffer.pos),
        "full": bool(buffer.full),
        "buffer_size": int(buffer.buffer_size),
        "n_envs": int(buffer.n_envs),
    }
    return chunks, data


def restore_replay(buffer: ReplayBuffer, chunks: list[Tensors], data: Any, where: str) -> None:
    """Put `capture_replay` back into a fresh buffer of the same size.

    The environment starts a new episode after a load, so an unfinished one in the buffer is closed
    where the sampling would otherwise run across the seam.
    """
    arrays = _arrays(buffer)
    size = take(data, "buffer_size", int, where, 1)
    copies = take(data, "n_envs", int, where, 1)
    if (size, copies) != (buffer.buffer_size, buffer.n_envs):
        raise VaerlLoadError(
            f"{where}: a replay buffer of {size} rows for {copies} environments; "
            f"the agent's has {buffer.buffer_size} for {buffer.n_envs}"
        )
    rows = take(data, "rows", int, where, 0, size)
    pos = take(data, "pos", int, where, 0, size - 1)
    full = take(data, "full", bool, where)
    filled = dict.fromkeys(arrays, 0)
    for tensors in chunks:
        for name, tensor in tensors.items():
            if name not in arrays:
                raise VaerlLoadError(f"{where}: {name[:60]!r} is no array of this buffer")
            array, values = arrays[name], tensor.numpy()
            if values.dtype != array.dtype:
                raise VaerlLoadError(f"{where}: {name} is {values.dtype}; expected {array.dtype}")
            start = filled[name] if _is_ring(array, buffer) else 0
            target = array[start : start + len(values)] if values.ndim else array
            if target.shape != values.shape:
                raise VaerlLoadError(f"{where}: {name} has shape {list(values.shape)}")
            target[...] = values
            filled[name] = start + len(values)
    for name, array in arrays.items():
        if filled[name] != (rows if _is_ring(array, buffer) else len(array)):
            raise VaerlLoadError(f"{where}: {name}: {filled[name]} rows")
    buffer.pos, buffer.full = pos, full
    if buffer.size() == 0:
        return
    last = (pos - 1) % size
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it truncates is what is wanted here
            buffer.truncate_last_trajectory()
    elif isinstance(buffer, NStepReplayBuffer):
        buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], buffer.dones[last] == 0)
    elif buffer.optimize_memory_usage:
        buffer.dones[last] = 1


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
