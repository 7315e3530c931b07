"""Reading a checkpoint, without building an agent from it.

Nothing in a checkpoint is ever run, and nothing is given out before the size and SHA-256 of each
file have been checked. Links and unknown file names are refused. A damaged checkpoint is skipped,
with one printed line, for the one saved before it. Every failure raises a `VaerlLoadError`.

The hashes detect damage, not forgery: whoever can rewrite a file can rewrite its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaerl.checkpoint.tensors import Tensors, from_bytes, unpack
from vaerl.disk import jsonio
from vaerl.disk.errors import RunFailed, VaerlLoadError, one_line
from vaerl.disk.reading import check_kind, read_file

FORMAT = 3
NAME = re.compile(r"(\d{9,18})-(\d{8}T\d{12})")
MANIFEST, AGENT = "manifest.json", "agent.safetensors"
MANIFEST_LIMIT = 2**24
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_total_timesteps")  # of an agent
FILE = re.compile(r"(agent|replay-\d{5})\.safetensors")
FILE_LIMIT = 2**31  # of a file of tensors; a replay buffer has several
TRIED_SHOWN = 5
DAMAGED = "it is damaged, or another version of vaerl wrote it"


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

    def description(self) -> Any:
        """What the agent is, from the manifest or from config.json of the run around it."""
        data = self.manifest.get("agent")
        if data is None:
            config = self.path.absolute().parents[1] / "config.json"
            data = jsonio.loads(read_file(config, MANIFEST_LIMIT), config.name)
        return data


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
    with contextlib.suppress(FileNotFoundError):
        check_kind(inner, stat.S_IFDIR, str(inner))
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
    check_kind(path, stat.S_IFDIR, path.name)
    data = read_file(path / MANIFEST, MANIFEST_LIMIT)
    manifest = jsonio.loads(data, MANIFEST, MANIFEST_LIMIT)
    with one_error(MANIFEST):
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
    data = read_file(path / name, min(entry["bytes"], FILE_LIMIT))
    if len(data) != entry["bytes"]:
        raise VaerlLoadError(f"{name}: got {len(data)} bytes, the manifest says {entry['bytes']}")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise VaerlLoadError(f"{name}: damaged, its SHA-256 is not that of the manifest")
    return from_bytes(data, name)


def list_checkpoints(directory: str | os.PathLike[str]) -> list[Path]:
    """List the checkpoints in a directory by their names, the last one saved first."""
    folder = Path(directory)
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    named = [p for p in found if NAME.fullmatch(p.name) and not p.is_symlink()]
    return sorted(named, key=lambda path: path.name.split("-")[::-1], reverse=True)


@contextlib.contextmanager
def one_error(where: str) -> Iterator[None]:
    """Turn errors of torch, numpy or stable-baselines3 about the data into a VaerlLoadError."""
    try:
        yield
    except VaerlLoadError:
        raise
    except KeyError as error:
        raise VaerlLoadError(f"{where}: {error} is missing; {DAMAGED}") from error
    except Exception as error:
        own = isinstance(error, ValueError | RunFailed)
        text = str(error) if own else f"{type(error).__name__}: {error}; {DAMAGED}"
        raise VaerlLoadError(f"{where}: {text}") from error
