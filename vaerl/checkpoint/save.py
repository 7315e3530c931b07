"""Saving an agent: a directory of safetensors and JSON that a kill at any moment cannot spoil.

    checkpoints/
      000123456-a1b2c3/      step and nonce; never changed after its rename into place
        policy.safetensors   modules and variables        optim.safetensors   optimizer states
        rng.safetensors      global generators            norm.safetensors    VecNormalize, if any
        replay-00000.safetensors …                        manifest.json       written last
      LATEST  BEST           one line each, a name; hints, never trusted

Everything is written and flushed under a hidden name, then renamed: a directory with a proper name
is complete. Loading is `checkpoint_load`; nothing here or there runs code out of a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import secrets
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from vaerl.checkpoint.agent import describe_agent
from vaerl.checkpoint.normalize import capture_normalizer
from vaerl.checkpoint.replay import capture_replay
from vaerl.checkpoint.rng import capture_rng
from vaerl.checkpoint.state import Parts, capture_modules, capture_optimizers
from vaerl.checkpoint.tensors import Tensors, to_bytes
from vaerl.disk import files, jsonio
from vaerl.disk.errors import WriteError
from vaerl.runs.directory import versions

FORMAT = 1
NAME = re.compile(r"(\d{9,18})-([0-9a-f]{6})")
LATEST, BEST, MANIFEST = "LATEST", "BEST", "manifest.json"


def save_checkpoint(
    agent: BaseAlgorithm,
    directory: str | os.PathLike[str],
    *,
    agent_name: str | None = None,
    env_id: str | None = None,
    include_replay: bool = False,
    keep_last: int | None = None,
    score: float | None = None,
    num_timesteps: int | None = None,
) -> Path:
    """Write one complete checkpoint below `directory` and return its path.

    Call it where the agent is consistent: between rollouts, or before and after `learn`. It draws
    no random number and changes nothing in the agent.

    Args:
        agent: any stable-baselines3 algorithm with a registered name (vaerl's, or sb3-sac, …).
        directory: the `checkpoints` directory, made if missing.
        agent_name: its registered name; found by its class if not given.
        env_id: noted in the manifest.
        include_replay: also store the filled part of the replay buffer.
        keep_last: delete all but the newest so many (the best and the new one always stay).
        score: how good the agent is; the highest so far is noted as the best.
        num_timesteps: the step to file it under, `agent.num_timesteps` if not given.

    Raises:
        ValueError: the agent cannot be written as pure data, or a parameter is not finite.
        WriteError: the disk refused; earlier checkpoints are as they were.
    """
    directory = Path(directory)
    step = int(agent.num_timesteps if num_timesteps is None else num_timesteps)
    payloads, manifest = _capture(agent, agent_name, step, include_replay)
    if score is not None and not math.isfinite(score):
        score = None
    manifest |= {"env_id": env_id, "score": None if score is None else float(score)}
    files.make_directory(directory)
    _sweep(directory)
    staging = directory / f"{files.PARTIAL}{secrets.token_hex(6)}"
    final = directory / f"{step:09d}-{secrets.token_hex(3)}"
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
    # From here on the checkpoint exists; hints and deletions that fail do not undo it.
    _hint(directory, LATEST, final.name)
    if score is not None and score >= _best_score(directory):
        _hint(directory, BEST, final.name)
    if keep_last is not None:
        with contextlib.suppress(WriteError):
            prune_checkpoints(directory, keep_last)
    return final


def _capture(
    agent: BaseAlgorithm, agent_name: str | None, step: int, include_replay: bool
) -> tuple[dict[str, Tensors], dict[str, Any]]:
    parts = Parts(agent)
    policy, modules = capture_modules(parts)
    optim, optimizers = capture_optimizers(parts)
    generators, rng = capture_rng(agent.action_space)
    payloads = {
        "policy.safetensors": policy,
        "optim.safetensors": optim,
        "rng.safetensors": generators,
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "versions": versions(),
        "machine": {
            "threads": torch.get_num_threads(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
        "agent": describe_agent(agent, agent_name),
        "progress": {
            "num_timesteps": step,
            "n_updates": int(agent._n_updates),
            "episodes": int(agent._episode_num),
            "total_timesteps": int(agent._total_timesteps),
        },
        "modules": modules,
        "optimizers": optimizers,
        "rng": rng,
        "normalizer": None,
        "replay": None,
    }
    wrapper = agent.get_vec_normalize_env()
    if wrapper is not None:
        payloads["norm.safetensors"], manifest["normalizer"] = capture_normalizer(wrapper)
    if include_replay and getattr(agent, "replay_buffer", None) is not None:
        chunks, manifest["replay"] = capture_replay(agent.replay_buffer)  # type: ignore[attr-defined]
        for index, chunk in enumerate(chunks):
            payloads[f"replay-{index:05d}.safetensors"] = chunk
    return payloads, manifest


def list_checkpoints(directory: str | os.PathLike[str]) -> list[Path]:
    """Directories with a checkpoint's name, newest first; what they hold is not looked at."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return []
    found = []
    for entry in entries:
        match = NAME.fullmatch(entry.name)
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, by the run itself
            if match and entry.is_dir(follow_symlinks=False):
                written = entry.stat(follow_symlinks=False).st_mtime_ns
                found.append((int(match[1]), written, entry.name))
    return [Path(directory) / name for _, _, name in sorted(found, reverse=True)]


def read_hint(directory: Path, hint: str) -> Path | None:
    """The checkpoint that LATEST or BEST names, if the file holds a proper name of one that is."""
    path = directory / hint
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 64:
            return None
        name = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    target = directory / name
    return target if NAME.fullmatch(name) and target.is_dir() and not target.is_symlink() else None


def best_checkpoint(directory: str | os.PathLike[str]) -> Path | None:
    """The checkpoint saved with the highest score, or None."""
    return read_hint(Path(directory), BEST)


def prune_checkpoints(directory: str | os.PathLike[str], keep_last: int) -> None:
    """Delete all but the newest `keep_last` checkpoints; what LATEST and BEST name always stays.

    Raises ValueError if `keep_last` < 1, WriteError.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last {keep_last}; expected an integer >= 1")
    directory = Path(directory)
    kept = {read_hint(directory, LATEST), read_hint(directory, BEST)}
    for path in list_checkpoints(directory)[keep_last:]:
        if path not in kept:
            files.remove_tree(path)


def _hint(directory: Path, hint: str, name: str) -> None:
    """Write a hint, or take away the one that has become wrong."""
    try:
        files.write_text(directory / hint, name + "\n")
    except WriteError:
        with contextlib.suppress(OSError):
            files.remove_tree(directory / hint)


def _sweep(directory: Path) -> None:
    """Delete what killed saves left; one process writes to a run at a time."""
    for entry in list(os.scandir(directory)):
        if entry.name.startswith((files.PARTIAL, files.TRASH)) or (
            entry.name.startswith(".") and entry.name.endswith(".partial")
        ):
            with contextlib.suppress(OSError):
                files.remove_tree(Path(entry.path))


def _best_score(directory: Path) -> float:
    best = best_checkpoint(directory)
    try:
        assert best is not None
        score = jsonio.loads((best / MANIFEST).read_bytes(), MANIFEST)["score"]
        return float(score)
    except (AssertionError, OSError, ValueError, TypeError, KeyError):
        return float("-inf")
