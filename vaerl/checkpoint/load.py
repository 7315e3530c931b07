"""Loading an agent from files of unknown origin.

Nothing in a checkpoint is ever run, and no agent is built before the size and SHA-256 of each file
have been checked. Links and unknown file names are refused. A damaged checkpoint is skipped, with
one printed line, for the one saved before it. Every failure raises a `VaerlLoadError`.

The hashes detect damage, not forgery: whoever can rewrite a file can rewrite its hash. A forged
checkpoint can make a policy bad, but it cannot make it run code. An environment that is made by its
id does run its own code; pass `env=` if you do not trust the checkpoint's choice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vaerl.agents.description import AgentDescription, make_agent
from vaerl.checkpoint.normalize import normalized, restore_normalizer
from vaerl.checkpoint.replay import restore_replay
from vaerl.checkpoint.rng import preserve_rng, restore_rng
from vaerl.checkpoint.save import (
    AGENT,
    COUNTERS,
    FORMAT,
    MANIFEST,
    MANIFEST_LIMIT,
    NAME,
    list_checkpoints,
    space_labels,
)
from vaerl.checkpoint.state import Parts
from vaerl.checkpoint.tensors import Tensors, from_bytes, unpack
from vaerl.disk import files, jsonio
from vaerl.disk.errors import VaerlLoadError, one_line

FILE = re.compile(r"(agent|replay-\d{5})\.safetensors")
FILE_LIMIT = 2**34
COPIES_LIMIT = 4096
TRIED_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and verified; no agent has been built from it yet."""

    path: Path
    """Its directory."""
    manifest: dict[str, Any]
    """What manifest.json says."""
    tensors: Tensors
    """Modules, optimizers and random states by name."""
    replay: list[Tensors]
    """The chunks of the replay buffer, if they were asked for."""

    @property
    def num_timesteps(self) -> int:
        """Environment steps that the agent had taken."""
        return int(self.manifest["counters"]["num_timesteps"])

    def state(self) -> dict[str, Any]:
        """The state of the agent as saved: a tree of tensors and plain data."""
        tree = self.manifest["state"]
        used: set[str] = set()
        state = {name: unpack(part, self.tensors, MANIFEST, used) for name, part in tree.items()}
        if unused := set(self.tensors) - used:
            raise VaerlLoadError(f"{min(unused)}: the agent has no such tensor")
        return state

    def description(self) -> AgentDescription:
        """What the agent is, from the manifest or from config.json of the run around it."""
        data = self.manifest.get("agent")
        if data is None:
            config = self.path.absolute().parents[1] / "config.json"
            data = jsonio.loads(files.read_file(config, MANIFEST_LIMIT), config.name)
        return AgentDescription.from_dict(data)


def find_checkpoint(path: str | os.PathLike[str], *, include_replay: bool = False) -> Checkpoint:
    """Read and verify the newest intact checkpoint at `path`.

    `path` is a run, a directory of checkpoints, or one checkpoint. Damaged ones are skipped, with
    one line each on stderr. If `path` is a checkpoint itself, no other is tried.

    Raises VaerlLoadError, listing what was tried and why it failed.
    """
    path = Path(path)
    if not path.exists():
        raise VaerlLoadError(f"no such checkpoint or run: {str(path)!r}")
    if not path.is_dir():
        raise VaerlLoadError(f"{str(path)!r} is a file; expected a run or a checkpoint directory")
    alone = bool(NAME.fullmatch(path.name)) or (path / MANIFEST).exists()
    inner = path / "checkpoints"
    candidates = [path] if alone else list_checkpoints(inner if inner.is_dir() else path)
    if not candidates:
        raise VaerlLoadError(f"{str(path)!r} holds no checkpoint")
    failures = []
    for index, candidate in enumerate(candidates):
        try:
            return read_checkpoint(candidate, include_replay=include_replay)
        except VaerlLoadError as error:
            failures.append(f"{candidate.name}: {error}")
            if index + 1 < len(candidates):
                print(f"checkpoint {failures[-1]}; trying an older one", file=sys.stderr)
    if alone:
        raise VaerlLoadError(f"checkpoint {failures[0]}")
    shown = "; ".join(one_line(failure, 110) for failure in failures[:TRIED_SHOWN])
    raise VaerlLoadError(f"no checkpoint in {str(path)!r} can be loaded: {shown}")


def read_checkpoint(path: Path, *, include_replay: bool = False) -> Checkpoint:
    """Read and verify one checkpoint; VaerlLoadError if anything is missing, damaged or unknown."""
    if path.is_symlink():
        raise VaerlLoadError(f"{path.name}: got a link, expected a directory")
    data = files.read_file(path / MANIFEST, MANIFEST_LIMIT)
    manifest = jsonio.loads(data, MANIFEST, MANIFEST_LIMIT)
    with _one_error(MANIFEST):
        if manifest["format"] != FORMAT:
            raise VaerlLoadError(
                f"{MANIFEST}: format: got {manifest['format']!r}, expected {FORMAT}; "
                "another version of vaerl wrote it"
            )
        for name, value in manifest["counters"].items():
            if type(value) is not int or value < 0:
                raise VaerlLoadError(f"{MANIFEST}: {name}: got {value!r}, expected 0 or more")
        listed = sorted(manifest["files"])
        for name in listed:
            if not FILE.fullmatch(name):
                raise VaerlLoadError(f"{MANIFEST}: {ascii(name)[:80]} is no file of a checkpoint")
        replay = [name for name in listed if name != AGENT] if include_replay else []
        tensors, *chunks = [_read(path, n, manifest["files"][n]) for n in (AGENT, *replay)]
    return Checkpoint(path, manifest, tensors, chunks)


def _read(path: Path, name: str, entry: dict[str, Any]) -> Tensors:
    data = files.read_file(path / name, FILE_LIMIT)
    if len(data) != entry["bytes"]:
        raise VaerlLoadError(f"{name}: got {len(data)} bytes, the manifest says {entry['bytes']}")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise VaerlLoadError(f"{name}: damaged, its SHA-256 is not that of the manifest")
    return from_bytes(data, name)


def load_checkpoint(
    path: str | os.PathLike[str] | Checkpoint,
    env: Any = None,
    device: str = "cpu",
    *,
    include_replay: bool = False,
    restore_rng: bool = False,
) -> BaseAlgorithm:
    """Load the agent of a run, of a directory of checkpoints, or of one checkpoint.

    It predicts what the saved agent predicted; `agent.learn(steps, reset_num_timesteps=False)`
    continues its training. The state of the environment is not stored: training continues with a
    new episode, so its numbers differ from those of an uninterrupted run.

    Args:
        path: a path, or what `find_checkpoint` returned.
        env: Gymnasium or vectorised environment with the same spaces. Without it the environment
            is made by its id: one copy, or as many as were saved if the replay buffer is loaded.
            Wrapped in VecNormalize if the saved one was.
        device: torch device.
        include_replay: load the replay buffer too, if the checkpoint has one.
        restore_rng: set the global generators (torch, numpy, Python) and that of the action space
            to their saved states. Otherwise loading changes no generator.

    Raises:
        VaerlLoadError: in one line, whatever is wrong with the files or the environment.
    """
    if isinstance(path, Checkpoint):
        checkpoint = path
    else:
        checkpoint = find_checkpoint(path, include_replay=include_replay)
    with preserve_rng(), _one_error(f"checkpoint {checkpoint.path.name}"):
        description = checkpoint.description()
        if env is None:
            copies = min(description.n_envs, COPIES_LIMIT) if include_replay else 1
            env = description.make_env(copies)
        env = BaseAlgorithm._wrap_env(env, verbose=0)
        normalizer = checkpoint.state()["normalizer"]
        if normalizer is not None:
            env = normalized(env, normalizer)
        stored = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        with _parameter_limit(4 * stored + 2**20):
            agent = make_agent(description, env, device=device)
    restore(agent, checkpoint, include_replay=include_replay, rng=restore_rng)
    return agent


def restore(
    agent: BaseAlgorithm, checkpoint: Checkpoint, *, include_replay: bool = False, rng: bool = False
) -> None:
    """Put the contents of a checkpoint into a fresh agent of the same description.

    Raises VaerlLoadError, in one line, if the two do not fit.
    """
    manifest = checkpoint.manifest
    with _one_error(f"checkpoint {checkpoint.path.name}"):
        for what, here in space_labels(agent).items():
            if here != manifest["spaces"][what]:
                raise ValueError(f"{what}: got {here}, expected {manifest['spaces'][what]}")
        state = checkpoint.state()
        Parts(agent).restore(state)
        agent.seed = manifest["seed"]
        for name in COUNTERS:
            setattr(agent, name, manifest["counters"][name])
        if agent._total_timesteps:
            agent._update_current_progress_remaining(agent.num_timesteps, agent._total_timesteps)
        if state["normalizer"] is not None:
            restore_normalizer(agent.get_env(), state["normalizer"])  # type: ignore[arg-type]
        buffer = getattr(agent, "replay_buffer", None) if include_replay else None
        if buffer is not None and manifest["replay"] is None:
            print(f"checkpoint {checkpoint.path.name} holds no replay buffer", file=sys.stderr)
        elif buffer is not None:
            restore_replay(buffer, checkpoint.replay, manifest["replay"])
        if rng:
            restore_rng(state["rng"], agent.action_space)


@contextlib.contextmanager
def _parameter_limit(elements: int) -> Iterator[None]:
    """Refuse networks far larger than the stored ones, before their weights are drawn."""
    left, thread = elements, threading.get_ident()

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal left
        if tensor is not None and threading.get_ident() == thread:
            left -= tensor.numel()
            if left < 0:
                raise VaerlLoadError(f"the agent would have more than {elements} parameters")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _one_error(where: str) -> Iterator[None]:
    """Turn errors of torch, numpy or stable-baselines3 about the data into a VaerlLoadError."""
    try:
        yield
    except VaerlLoadError:
        raise
    except Exception as error:
        text = str(error) if type(error) is ValueError else repr(error)
        raise VaerlLoadError(f"{where}: {text}") from error
