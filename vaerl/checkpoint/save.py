"""Saving an agent as a directory of safetensors and JSON; a kill never damages earlier ones.

    checkpoints/
      000123456-20261129T050107123456/   step and time of the save; never changed after its rename
        agent.safetensors                modules, variables, optimizer states, random generators
        replay-00000.safetensors …       the replay buffer, if it is kept
        manifest.json                    counters, settings, sizes and hashes; written last

Everything is written and flushed under a hidden name, then renamed: a directory with a name as
above is complete. In a run, config.json describes the agent; otherwise the manifest does, with the
same fields.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from vaerl.agents.description import describe
from vaerl.checkpoint.loop import capture_loop
from vaerl.checkpoint.normalize import capture_normalizer
from vaerl.checkpoint.read import (
    AGENT,
    COUNTERS,
    FORMAT,
    MANIFEST,
    list_checkpoints,
)
from vaerl.checkpoint.replay import capture_replay
from vaerl.checkpoint.rng import capture_rng
from vaerl.checkpoint.state import Parts
from vaerl.checkpoint.tensors import Tensors, pack, to_bytes
from vaerl.disk import files, jsonio
from vaerl.disk.errors import WriteError
from vaerl.disk.versions import versions

Captured = tuple[dict[str, Tensors], dict[str, Any]]
"""Tensors by file, and the manifest."""


def save_checkpoint(
    agent: BaseAlgorithm,
    directory: str | os.PathLike[str],
    *,
    described: bool = False,
    include_replay: bool = False,
    keep_last: int | None = None,
    num_timesteps: int | None = None,
    captured: Captured | None = None,
) -> Path:
    """Write one complete checkpoint below `directory` and return its path.

    Call it where the agent is consistent: between rollouts, or before and after `learn`. It draws
    no random number and changes nothing in the agent.

    Args:
        agent: an agent of vaerl, or SAC, PPO, A2C, TD3 or DDPG of stable-baselines3.
        directory: where checkpoints are collected; made if missing.
        described: whether config.json beside `directory` describes the agent, as in a run. If not,
            the manifest does.
        include_replay: also store the filled part of the replay buffer.
        keep_last: number of checkpoints to keep; older ones are deleted. None keeps all.
        num_timesteps: the step in the name and the counters; default `agent.num_timesteps`.
        captured: what `capture_agent` returned at that step; the present state if None.

    Raises:
        ValueError: the agent cannot be written as plain data, or a parameter is not finite.
        WriteError: the disk refused; earlier checkpoints are intact.
    """
    directory = Path(directory)
    step = int(agent.num_timesteps if num_timesteps is None else num_timesteps)
    payloads, manifest = captured or capture_agent(agent, step, include_replay)
    if not described:
        manifest["agent"] = asdict(describe(agent))
    files.make_directory(directory)
    _sweep(directory)
    staging = directory / f"{files.PARTIAL}{secrets.token_hex(6)}"
    final = directory / f"{step:09d}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    try:
        files.make_directory(staging)
        manifest["files"] = {}
        for name, tensors in payloads.items():
            data = to_bytes(tensors)
            files.write_new(staging / name, data)
            digest = hashlib.sha256(data).hexdigest()
            manifest["files"][name] = {"bytes": len(data), "sha256": digest}
        files.write_new(staging / MANIFEST, jsonio.dumps(manifest, indent=1).encode())
        files.publish_directory(staging, final)
    except BaseException:
        with contextlib.suppress(OSError):
            files.remove_tree(staging)
        raise
    if keep_last is not None:
        with contextlib.suppress(WriteError):  # the checkpoint is complete all the same
            prune_checkpoints(directory, keep_last)
    return final


def capture_agent(agent: BaseAlgorithm, step: int, include_replay: bool = False) -> Captured:
    """The files of a checkpoint, but for the manifest, and the manifest.

    Tensors share the memory of the agent; see `keep`.
    """
    wrapper = agent.get_vec_normalize_env()
    state = {
        **Parts(agent).capture(),
        "rng": capture_rng(agent.action_space),
        "normalizer": None if wrapper is None else capture_normalizer(wrapper),
        "loop": capture_loop(agent),
    }
    tensors: Tensors = {}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "versions": versions(),
        "counters": {**{name: int(getattr(agent, name)) for name in COUNTERS}, COUNTERS[0]: step},
        "seed": None if agent.seed is None else int(agent.seed),
        "spaces": space_labels(agent),
        "state": {name: pack(part, name, tensors) for name, part in state.items()},
        "replay": None,
    }
    payloads = {AGENT: tensors}
    if include_replay and getattr(agent, "replay_buffer", None) is not None:
        chunks, manifest["replay"] = capture_replay(agent.replay_buffer)  # type: ignore[attr-defined]
        payloads |= {f"replay-{i:05d}.safetensors": chunk for i, chunk in enumerate(chunks)}
    return payloads, manifest


def keep(captured: Captured) -> Captured:
    """A copy that does not follow the agent."""
    files_, manifest = captured
    copies = {file: {n: t.clone() for n, t in tensors.items()} for file, tensors in files_.items()}
    return copies, manifest


def space_labels(agent: BaseAlgorithm) -> dict[str, str]:
    """Describe the spaces of an agent, to refuse an environment with other ones."""
    return {
        "observation space": space_label(agent.observation_space),
        "action space": space_label(agent.action_space),
    }


def space_label(space: spaces.Space) -> str:
    """Type, shape, dtype and range of a space.

    >>> space_label(spaces.Box(-1.0, 2.0, (3,)))
    'Box (3,) float32, low -1.0 to -1.0, high 2.0 to 2.0'
    """
    if isinstance(space, spaces.Dict):
        return "Dict " + "; ".join(f"{key}: {space_label(part)}" for key, part in space.items())
    label = f"{type(space).__name__} {space.shape} {space.dtype}"
    for name in ("low", "high", "n", "nvec", "start"):
        if hasattr(space, name):
            values = np.asarray(getattr(space, name))
            label += f", {name} {values.min()} to {values.max()}"
    return label


def prune_checkpoints(directory: str | os.PathLike[str], keep_last: int) -> None:
    """Delete all but the last `keep_last` checkpoints.

    Raises ValueError if `keep_last` < 1, WriteError.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last: got {keep_last}, expected 1 or more")
    for path in list_checkpoints(directory)[keep_last:]:
        files.remove_tree(path)


def _sweep(directory: Path) -> None:
    """Delete what killed saves left behind; only one process at a time writes to a directory."""
    for path in directory.iterdir():
        if files.is_leftover(path):
            with contextlib.suppress(OSError):
                files.remove_tree(path)
