"""A run on disk: one directory that every command reads and writes.

    runs/<name>/
      config.json      the resolved configuration (plain data) and the versions of the libraries
      status.json      running, finished, stopped or failed, and the number of steps
      evaluation.json  the final evaluation
      metrics.jsonl    the logged numbers, one row per line
      checkpoints/     read by `load_checkpoint`
      episodes/        recorded by `vaerl collect --run`
      figures/ videos/ report.html

metrics.jsonl is the original; W&B and TensorBoard hold copies.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from vaerl.disk import files, jsonio
from vaerl.disk.errors import VaerlLoadError, one_line
from vaerl.disk.versions import versions
from vaerl.track import TRACKERS

STATES = ("running", "finished", "stopped", "failed")
LOCK = ".lock"  # held by the process that trains
METRICS_LIMIT = 2**32  # bytes of metrics.jsonl that are read
_NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


class RunDirectory:
    """The directory of one run: `create` makes a new one, `open` reads an existing one.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> run = RunDirectory(folder.name + "/first").create({"agent": "sac", "seed": 0})
    >>> again = RunDirectory.open(run.path)
    >>> again.config["agent"], again.metrics(), again.status()["state"]
    ('sac', [], 'running')
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.status_path = self.path / "status.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.evaluation_path = self.path / "evaluation.json"
        self.checkpoints_path = self.path / "checkpoints"
        self.figures_path = self.path / "figures"
        self.videos_path = self.path / "videos"
        self.episodes_path = self.path / "episodes"
        self.report_path = self.path / "report.html"
        self._config: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The name of the directory, and of the run."""
        return self.path.resolve().name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the directory inside the block.

        The operating system frees the lock when its process ends, however it ends.

        Raises ValueError if another process has the lock; WriteError.
        """
        files.check_folder("out", self.path)
        files.make_directory(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(
                f"out: {str(self.path)!r} is in use: another process is training there"
            ) from None
        try:
            yield
        finally:
            lock.release()
            with contextlib.suppress(OSError):  # not in a folder that was not ours to begin with
                if not self.config_path.exists():
                    (self.path / LOCK).unlink(missing_ok=True)
                    self.path.rmdir()

    def create(self, config: dict[str, Any], overwrite: bool = False) -> Self:
        """Make the directory with its config.json and return self.

        `config` is plain data; `versions` is added to it. `overwrite` deletes the files of an
        existing run, and nothing else in its directory.

        Raises ValueError for an existing run without `overwrite`, a directory with other files, or
        a config that is not plain data; WriteError.
        """
        config = {**config, "versions": versions()}
        text = jsonio.dumps(config, indent=2) + "\n"
        self.check_free(overwrite)
        self._clear()
        files.check_folder("run", self.path)
        for folder in (self.path, self.checkpoints_path, self.figures_path, self.videos_path):
            files.make_directory(folder)
        self.set_status("running", 0)
        files.write_text(self.config_path, text)
        self._config = json.loads(text)
        return self

    def check_free(self, overwrite: bool = False) -> None:
        """Raise ValueError for an existing run without `overwrite` and for other files."""
        if not self.path.is_dir() or not {path.name for path in self.path.iterdir()} - {LOCK}:
            return
        if not (self.config_path.exists() or self.status_path.exists()):
            raise ValueError(
                f"out: {str(self.path)!r} is not empty and is not a run; choose another folder"
            )
        if not overwrite:
            raise ValueError(
                f"out: {str(self.path)!r} holds a run already; choose another folder or --overwrite"
            )

    @property
    def holds_work(self) -> bool:
        """Whether a file besides the configuration and the status has content."""
        made = {LOCK, "error.txt", self.config_path.name, self.status_path.name}
        found = (path for path in self.path.rglob("*") if path.name not in made)
        return any(path.is_symlink() or (path.is_file() and path.stat().st_size) for path in found)

    def _clear(self) -> None:
        own = (
            self.config_path,  # first, so that a run deleted in part is not taken for a run
            self.status_path,
            self.metrics_path,
            self.evaluation_path,
            self.report_path,
            self.checkpoints_path,
            self.figures_path,
            self.videos_path,
            self.episodes_path,
            *(self.path / name for name in TRACKERS.names()),
        )
        for path in own:
            if path.exists() or path.is_symlink():
                files.remove_tree(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The run at `path`; VaerlLoadError if there is none or its config cannot be read."""
        run = cls(path)
        if not run.path.exists():
            raise VaerlLoadError(f"no such run: {str(run.path)!r}")
        if not run.config_path.is_file():
            raise VaerlLoadError(f"{str(run.path)!r} is not a run: it has no config.json")
        run._config = _read_object(run.config_path)
        return run

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that `create` wrote, with `versions`."""
        if self._config is None:
            self._config = type(self).open(self.path)._config
        assert self._config is not None
        return self._config

    def set_status(self, state: str, steps: int, **details: Any) -> None:
        """Write status.json: one of `STATES`, the number of steps, and further plain data."""
        if state not in STATES:
            raise ValueError(f"state: got {state!r}, expected one of {', '.join(STATES)}")
        text = jsonio.dumps({"state": state, "steps": int(steps), **details})
        files.write_text(self.status_path, text + "\n")

    def status(self) -> dict[str, Any]:
        """What `set_status` wrote last; running with 0 steps if there is nothing yet."""
        if not self.status_path.exists():
            return {"state": "running", "steps": 0}
        status = _read_object(self.status_path)
        where = str(self.status_path)
        _check_steps(status, "steps", where)
        if status.get("state") not in STATES:
            legal = ", ".join(STATES)
            raise VaerlLoadError(f"{where}:state: got {status.get('state')!r}, expected {legal}")
        return status

    def evaluation(self) -> dict[str, Any] | None:
        """The final evaluation: "step", "train_seconds", "stochastic" and "deterministic".

        None before the end of training; VaerlLoadError if it cannot be read.
        """
        if not self.evaluation_path.exists():
            return None
        data = _read_object(self.evaluation_path)
        for kind in ("stochastic", "deterministic"):
            figures = data.get(kind, {})
            if not isinstance(figures, dict) or not isinstance(figures.get("goals", []), list):
                where = f"{self.evaluation_path}:{kind}"
                raise VaerlLoadError(f"{where}: expected an object whose goals are a list")
        return data

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, each with `global_step`; an incomplete last line is left out.

        Raises VaerlLoadError, which names the line.
        """
        if not self.metrics_path.exists():
            return []
        if self.metrics_path.stat().st_size > METRICS_LIMIT:
            raise VaerlLoadError(f"{self.metrics_path}: larger than {METRICS_LIMIT} bytes")
        try:
            lines = files.read_lines(self.metrics_path)
        except UnicodeDecodeError as error:
            raise VaerlLoadError(f"{self.metrics_path}: not UTF-8: {error}") from None
        rows = []
        for number, line in enumerate(lines, start=1):
            where = f"{self.metrics_path}:{number}"
            row = jsonio.loads(line.encode(), where)
            _check_steps(row, "global_step", where)
            rows.append({key: _NOT_FINITE.get(str(value), value) for key, value in row.items()})
        return rows

    def drop_metrics_after(self, step: int) -> None:
        """Delete the rows after `step`, which a resumed run writes again; WriteError."""
        if not self.metrics_path.exists():
            return
        lines = files.read_lines(self.metrics_path)
        kept = [
            line
            for line, row in zip(lines, self.metrics(), strict=True)
            if row["global_step"] <= step
        ]
        files.write_text(self.metrics_path, "".join(line + "\n" for line in kept))

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (int64) and values (float64) of the rows that have `key`."""
        rows = [row for row in self.metrics() if isinstance(row.get(key), int | float)]
        steps = np.array([row["global_step"] for row in rows], dtype=np.int64)
        return steps, np.array([float(row[key]) for row in rows], dtype=np.float64)


def _check_steps(data: Any, key: str, where: str) -> None:
    """Raise VaerlLoadError unless `data` is an object with a number of steps under `key`."""
    steps = data.get(key) if isinstance(data, dict) else None
    if type(steps) is not int or steps < 0:
        shown = one_line(repr(data), 60) if steps is None else repr(steps)
        raise VaerlLoadError(f"{where}:{key}: got {shown}, expected a whole number, 0 or more")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = jsonio.loads(path.read_bytes(), str(path))
    except OSError as error:
        raise VaerlLoadError(f"{path}: {error.strerror or error}") from None
    if not isinstance(data, dict):
        raise VaerlLoadError(f"{path}: expected an object")
    return data
