"""Loading an agent from files that nobody vouches for.

Nothing in a checkpoint is ever run, and nothing is built before the manifest, the sizes and the
SHA-256 of every file that is read have been checked. Files are opened without following links,
under names from a fixed list. A checkpoint that does not hold together is passed over, in one
printed line, for the next older one. Every failure is one `VaerlLoadError`.

The hashes tell damage, not forgery: who can rewrite a file can rewrite its hash. A forged
checkpoint can therefore make a bad policy, but it cannot make a policy that does something else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from vaerl.checkpoint import rng
from vaerl.checkpoint.agent import build_agent
from vaerl.checkpoint.normalize import normalized, restore_normalizer
from vaerl.checkpoint.replay import restore_replay
from vaerl.checkpoint.save import FORMAT, LATEST, MANIFEST, NAME, list_checkpoints, read_hint
from vaerl.checkpoint.state import Parts, restore_modules, restore_optimizers
from vaerl.checkpoint.tensors import Tensors, from_bytes
from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError, one_line
from vaerl.disk.jsonio import take

REQUIRED = ("policy.safetensors", "optim.safetensors", "rng.safetensors")
FILE = re.compile(r"(policy|optim|rng|norm|replay-\d{5})\.safetensors")
MANIFEST_LIMIT = 2**24
FILE_LIMIT = 2**34
FILES_LIMIT = 4096
TRIED_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and verified, not built yet."""

    path: Path
    """Its directory."""
    manifest: dict[str, Any]
    """What manifest.json says: agent, progress, versions, env_id, score."""
    payloads: dict[str, Tensors]
    """The tensors of each file that was read."""

    @property
    def num_timesteps(self) -> int:
        """Environment steps that the agent had taken."""
        return int(self.manifest["progress"]["num_timesteps"])


class _Directory:
    """An open directory whose plain files are read by name, links and devices refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            if path.is_symlink():
                raise VaerlLoadError(f"{path.name}: a link; expected a directory")
            self._fd: int | None = os.open(path, flags) if os.open in os.supports_dir_fd else None
        except OSError as error:
            raise VaerlLoadError(f"{path.name}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def read(self, name: str, limit: int, size: int | None = None) -> bytes:
        """The bytes of a plain file of at most `limit` bytes, exactly `size` of them if given."""
        with self._open(name, limit, size) as file:
            data: bytes = file.read(limit + 1)
        if len(data) > limit or (size is not None and len(data) != size):
            raise VaerlLoadError(f"{name}: changed while it was read")
        return data

    def check_size(self, name: str, limit: int, size: int) -> None:
        """Raise VaerlLoadError unless `name` is a plain file of `size` bytes."""
        self._open(name, limit, size).close()

    def _open(self, name: str, limit: int, size: int | None) -> Any:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            if self._fd is None:
                fd = os.open(self.path / name, flags)
            else:
                fd = os.open(name, flags, dir_fd=self._fd)
        except OSError as error:
            reasons = {errno.ENOENT: "missing", errno.ELOOP: "a link; expected a plain file"}
            reason = reasons.get(error.errno or 0, error.strerror)
            raise VaerlLoadError(f"{name}: {reason}") from None
        status = os.fstat(fd)
        problem = None
        if not stat.S_ISREG(status.st_mode):
            problem = "no plain file"
        elif status.st_size > limit:
            problem = f"{status.st_size} bytes; at most {limit} are read"
        elif size is not None and status.st_size != size:
            problem = f"{status.st_size} bytes; the manifest says {size}"
        if problem is not None:
            os.close(fd)
            raise VaerlLoadError(f"{name}: {problem}")
        return os.fdopen(fd, "rb")


def find_checkpoint(path: str | os.PathLike[str], *, include_replay: bool = False) -> Checkpoint:
    """The newest checkpoint at `path` that holds together, read and verified.

    `path` is a run, a directory of checkpoints, or one checkpoint. Of several, the one that LATEST
    names comes first, then the others from the newest; each that fails is named in one line on
    stderr. A checkpoint named directly has no stand-in.

    Raises VaerlLoadError, listing what was tried and why it failed.
    """
    path = Path(path)
    if not path.exists():
        raise VaerlLoadError(f"no such checkpoint or run: {str(path)!r}")
    if not path.is_dir():
        raise VaerlLoadError(f"{str(path)!r} is a file; expected a run or a checkpoint directory")
    if NAME.fullmatch(path.name) or (path / MANIFEST).exists():
        try:
            return read_checkpoint(path, include_replay=include_replay)
        except VaerlLoadError as error:
            raise VaerlLoadError(f"checkpoint {path.name}: {error}") from None
    inner = path / "checkpoints"
    directory = inner if inner.is_dir() and not inner.is_symlink() else path
    latest = read_hint(directory, LATEST)
    candidates = list_checkpoints(directory)
    if latest in candidates:
        candidates.sort(key=lambda candidate: candidate != latest)  # stable: the rest in order
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
    shown = "; ".join(one_line(failure, 110) for failure in failures[:TRIED_SHOWN])
    raise VaerlLoadError(f"no checkpoint in {str(path)!r} can be loaded: {shown}")


def read_checkpoint(path: Path, *, include_replay: bool = False) -> Checkpoint:
    """Read and verify one checkpoint; VaerlLoadError if anything is missing, damaged or unknown."""
    with _Directory(path) as directory:
        manifest = jsonio.loads(directory.read(MANIFEST, MANIFEST_LIMIT), MANIFEST, MANIFEST_LIMIT)
        version = take(manifest, "format", int, MANIFEST, low=1)
        if version > FORMAT:
            raise VaerlLoadError(
                f"{MANIFEST}:format: {version} is newer than this vaerl reads ({FORMAT}); update it"
            )
        _check_manifest(manifest)
        payloads = {}
        for name, entry in manifest["files"].items():
            where = f"{MANIFEST}:files:{name}"
            size = take(entry, "bytes", int, where, 0, FILE_LIMIT)
            digest = take(entry, "sha256", str, where)
            if name.startswith("replay") and not include_replay:
                directory.check_size(name, FILE_LIMIT, size)
                continue
            data = directory.read(name, FILE_LIMIT, size)
            if hashlib.sha256(data).hexdigest() != digest:
                raise VaerlLoadError(f"{name}: damaged, its SHA-256 is not that of the manifest")
            payloads[name] = from_bytes(data, name)
    rng.check_rng(payloads["rng.safetensors"], manifest["rng"], MANIFEST)
    return Checkpoint(path, manifest, payloads)


def _check_manifest(manifest: dict[str, Any]) -> None:
    for key in ("versions", "agent", "progress", "modules", "optimizers", "rng", "files"):
        take(manifest, key, dict, MANIFEST)
    for key in ("normalizer", "replay"):
        take(manifest, key, dict, MANIFEST, default=None)
    where = f"{MANIFEST}:progress"
    for key in ("num_timesteps", "n_updates", "episodes", "total_timesteps"):
        take(manifest["progress"], key, int, where, 0, 10**18)
    listed = manifest["files"]
    if len(listed) > FILES_LIMIT:
        raise VaerlLoadError(f"{MANIFEST}:files: {len(listed)} of them; at most {FILES_LIMIT}")
    for name in listed:
        if not FILE.fullmatch(name):
            raise VaerlLoadError(f"{MANIFEST}:files: {ascii(name)[:80]} is no file of a checkpoint")
    needed = [*REQUIRED, *(["norm.safetensors"] if manifest.get("normalizer") else [])]
    for name in needed:
        if name not in listed:
            raise VaerlLoadError(f"{MANIFEST}:files: {name} is missing")


def load_checkpoint(
    path: str | os.PathLike[str] | Checkpoint,
    env: Any = None,
    device: str = "cpu",
    exact: bool = True,
    *,
    include_replay: bool = False,
    restore_rng: bool = False,
) -> BaseAlgorithm:
    """The agent of a run, of a directory of checkpoints, or of one checkpoint.

    It predicts what the saved agent predicted and trains on with
    `agent.learn(more, reset_num_timesteps=False)`. The environment starts a new episode; env
    states are not stored, so training resumes but does not repeat bit for bit.

    Args:
        path: where to look, or what `find_checkpoint` returned.
        env: Gymnasium or vectorised environment with the same spaces; without one the agent can
            predict but not learn. Wrapped in VecNormalize if the saved one was.
        device: torch device.
        exact: refuse a checkpoint whose tensors are not those of the agent. If False, what does
            not fit keeps its fresh values, named in one line on stderr, and optimizers stay fresh.
        include_replay: also bring back the replay buffer, if the checkpoint has one.
        restore_rng: set the global generators (torch, numpy, Python) and that of the action space
            to what they were at the save. Otherwise loading leaves every generator as it is.

    Raises:
        VaerlLoadError: in one line, whatever is wrong with the files or the environment.
    """
    if isinstance(path, Checkpoint):
        checkpoint = path
    else:
        checkpoint = find_checkpoint(path, include_replay=include_replay)
    manifest, payloads = checkpoint.manifest, checkpoint.payloads
    where = f"{checkpoint.path.name}/{MANIFEST}"
    with rng.preserve_rng(), _one_error(where):
        if manifest.get("normalizer") is not None and env is not None:
            env = _vectorized(env)
            env = normalized(env, manifest["normalizer"], f"{where}:normalizer")
        weights = payloads["policy.safetensors"]
        elements = sum(tensor.numel() for tensor in weights.values())
        agent = build_agent(manifest["agent"], env, device, elements, f"{where}:agent")
        parts = Parts(agent)
        misfits = restore_modules(parts, weights, manifest["modules"], f"{where}:modules", exact)
        if not misfits:
            optim = payloads["optim.safetensors"]
            restore_optimizers(parts, optim, manifest["optimizers"], f"{where}:optimizers")
        else:
            print(
                f"checkpoint {checkpoint.path.name}: left as built: {one_line(misfits, 300)}",
                file=sys.stderr,
            )
        _restore_progress(agent, manifest["progress"])
        if manifest.get("normalizer") is not None:
            _restore_normalizer(agent, payloads, where)
        if include_replay:
            _restore_replay(agent, checkpoint, where)
    if restore_rng:
        with _one_error(where):
            rng.restore_rng(payloads["rng.safetensors"], manifest["rng"], agent.action_space)
    return agent


@contextlib.contextmanager
def _one_error(where: str) -> Any:
    """Whatever torch or numpy say about data that passed the checks, as one VaerlLoadError."""
    try:
        yield
    except VaerlLoadError:
        raise
    except (
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        MemoryError,
        AttributeError,
        AssertionError,
    ) as error:
        raise VaerlLoadError(f"{where}: does not fit the agent: {error!r}") from error


def _vectorized(env: Any) -> Any:
    return BaseAlgorithm._wrap_env(env, verbose=0)


def _restore_progress(agent: BaseAlgorithm, progress: dict[str, int]) -> None:
    agent.num_timesteps = progress["num_timesteps"]
    agent._n_updates = progress["n_updates"]
    agent._episode_num = progress["episodes"]
    agent._total_timesteps = progress["total_timesteps"]
    if agent._total_timesteps:
        agent._update_current_progress_remaining(agent.num_timesteps, agent._total_timesteps)


def _restore_normalizer(agent: BaseAlgorithm, payloads: dict[str, Tensors], where: str) -> None:
    env = agent.get_env()
    if env is None:
        print("this agent saw normalised observations: load it with its env", file=sys.stderr)
    else:
        restore_normalizer(env, payloads["norm.safetensors"], f"{where}:normalizer")


def _restore_replay(agent: BaseAlgorithm, checkpoint: Checkpoint, where: str) -> None:
    data = checkpoint.manifest.get("replay")
    if data is None:
        print(f"checkpoint {checkpoint.path.name} holds no replay buffer", file=sys.stderr)
        return
    if not isinstance(agent, OffPolicyAlgorithm) or agent.replay_buffer is None:
        raise VaerlLoadError(f"{where}:replay: the agent has no replay buffer")
    names = sorted(name for name in checkpoint.payloads if name.startswith("replay"))
    chunks = [checkpoint.payloads[name] for name in names]
    restore_replay(agent.replay_buffer, chunks, data, f"{where}:replay")
