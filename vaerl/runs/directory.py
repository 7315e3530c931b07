"""A run on disk: one directory that every command reads and writes.

    runs/<name>/
      config.json      the resolved configuration (plain data) and the versions of the libraries
      status.json      running, finished, stopped or failed, and the number of steps
      evaluation.json  the final evaluation
      metrics.jsonl    the logged numbers, one row per line
      checkpoints/     read by `load_checkpoint`
      episodes/        recorded by `vaerl collect --run`
      export/          the policy to take along, by `vaerl export`
      figures/ videos/ report.html
      error.txt        the traceback of a run that failed

metrics.jsonl is the original; W&B and TensorBoard hold copies.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from vaerl.disk import files, jsonio
from vaerl.disk.errors import VaerlLoadError, WriteError, one_line
from vaerl.disk.reading import check_kind, read_file
from vaerl.disk.versions import versions
from vaerl.runs.owner import HIDDEN, Owner, forget, owned
from vaerl.track import TRACKERS
from vaerl.track.rows import LARGEST, check_steps, read_rows, rows_until
from vaerl.track.rows import LIMIT as LOG_LIMIT

STATES = ("running", "finished", "stopped", "failed")
CONFIG_LIMIT = 2**20  # bytes of config.json and status.json
MOST_EPISODES = 1_000_000  # of an evaluation


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
        self.export_path = self.path / "export"
        self.report_path = self.path / "report.html"
        self.error_path = self.path / "error.txt"
        self._config: dict[str, Any] | None = None
        self._owner: Owner | None = None

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The name of the directory, and of the run."""
        return self.path.resolve().name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the directory inside the block.

        See `vaerl.runs.owner`.

        Raises ValueError if another process has the lock; WriteError.
        """
        files.check_folder("out", self.path)
        try:
            files.make_directory(self.path)
        except WriteError as error:
            raise ValueError(
                f"out: got {str(self.path)!r}, expected a writable folder; {error.strerror}"
            ) from error
        try:
            with owned(self.path) as self._owner:
                yield
        finally:
            self._owner = None
            if not self.config_path.exists():  # not in a folder that was not ours to begin with
                forget(self.path)

    def check_owner(self) -> None:
        """Raise a RunFailed if the folder was `locked` and is no longer this process's."""
        if self._owner is not None:
            self._owner.check()

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
        if not self.path.is_dir() or not any(map(self._is_content, self.path.iterdir())):
            return
        if not (self.config_path.exists() or self.status_path.exists()):
            raise ValueError(
                f"out: {str(self.path)!r} is not empty and is not a run; choose another folder"
            )
        if not overwrite:
            raise ValueError(
                f"out: {str(self.path)!r} holds a run already; choose another folder or --overwrite"
            )

    def _is_content(self, path: Path) -> bool:
        """Whether something in the folder is more than a creation that was cut off leaves there."""
        if path.name in HIDDEN or files.is_leftover(path):
            return False
        own = path in (self.checkpoints_path, self.figures_path, self.videos_path)
        return not own or path.is_symlink() or not path.is_dir() or any(path.iterdir())

    @property
    def holds_work(self) -> bool:
        """Whether a file besides the configuration and the status has content."""
        made = {*HIDDEN, self.error_path.name, self.config_path.name, self.status_path.name}
        found = (
            path
            for path in self.path.rglob("*")
            if path.name not in made
            and not any(map(files.is_leftover, (path, *path.relative_to(self.path).parents)))
        )
        return any(path.is_symlink() or (path.is_file() and path.stat().st_size) for path in found)

    def _clear(self) -> None:
        own = (
            self.config_path,  # first, so that a run deleted in part is not taken for a run
            self.metrics_path,
            self.evaluation_path,
            self.error_path,
            self.report_path,
            self.checkpoints_path,
            self.figures_path,
            self.videos_path,
            self.episodes_path,
            self.export_path,
            *(self.path / name for name in TRACKERS.names()),
            *(path for path in self.path.glob(".*") if files.is_leftover(path)),
            self.status_path,  # last, so that it can be deleted again
        )
        for path in own:
            if os.path.lexists(path):
                files.remove_tree(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The run at `path`; VaerlLoadError if there is none or its config cannot be read."""
        run = cls(path)
        if not run.path.exists():
            raise VaerlLoadError(f"no such run: {str(run.path)!r}")
        if not os.path.lexists(run.config_path):
            raise VaerlLoadError(f"{str(run.path)!r} is not a run: it has no config.json")
        run.check_places()
        run._config = run._read_object(run.config_path, CONFIG_LIMIT)
        return run

    def check_places(self) -> None:
        """Raise a VaerlLoadError unless files and folders of the run are such, and no links.

        A link would have a command read, write or delete outside of the run.
        """
        folders = (
            *(self.checkpoints_path, self.figures_path, self.videos_path, self.episodes_path),
            self.export_path,
            *(self.path / name for name in TRACKERS.names()),
        )
        kinds = dict.fromkeys(folders, stat.S_IFDIR)
        own = (self.config_path, self.status_path, self.evaluation_path, self.metrics_path)
        kinds |= dict.fromkeys((*own, *(self.path / name for name in HIDDEN)), stat.S_IFREG)
        for place, kind in kinds.items():
            with contextlib.suppress(FileNotFoundError):
                check_kind(place, kind, str(place))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that `create` wrote, with `versions`."""
        if self._config is None:
            self._config = type(self).open(self.path)._config
        assert self._config is not None
        return self._config

    def _read(self, path: Path, limit: int) -> bytes:
        try:
            return read_file(path, limit, root=self.path)
        except VaerlLoadError as error:
            raise VaerlLoadError(f"{self.path}{os.sep}{error}") from None

    def _read_object(self, path: Path, limit: int) -> dict[str, Any]:
        data = jsonio.loads(self._read(path, limit), str(path))
        if not isinstance(data, dict):
            raise VaerlLoadError(f"{path}: expected an object")
        return data

    def set_status(self, state: str, steps: int, **details: Any) -> None:
        """Write status.json: one of `STATES`, the number of steps, and further plain data."""
        if state not in STATES:
            raise ValueError(f"state: got {state!r}, expected one of {', '.join(STATES)}")
        text = jsonio.dumps({"state": state, "steps": int(steps), **details})
        self.check_owner()
        files.write_text(self.status_path, text + "\n")

    def status(self) -> dict[str, Any]:
        """What `set_status` wrote last; running with 0 steps if there is nothing yet."""
        if not self.status_path.exists():
            return {"state": "running", "steps": 0}
        status = self._read_object(self.status_path, CONFIG_LIMIT)
        where = str(self.status_path)
        check_steps(status, "steps", where)
        if status.get("state") not in STATES:
            shown, legal = one_line(repr(status.get("state")), 60), ", ".join(STATES)
            raise VaerlLoadError(f"{where}:state: got {shown}, expected {legal}")
        for key in ("train_seconds", "train_steps"):
            _check_number(status.get(key, 0), f"{where}:{key}", 0.0)
        return status

    def evaluation(self) -> dict[str, Any] | None:
        """The final evaluation: "step", "train_seconds", "stochastic" and "deterministic".

        None before the end of training; VaerlLoadError if it cannot be read.
        """
        if not self.evaluation_path.exists():
            return None
        data = self._read_object(self.evaluation_path, jsonio.MAX_BYTES)
        for kind in ("stochastic", "deterministic"):
            where, found = f"{self.evaluation_path}:{kind}", data.get(kind, {})
            if not isinstance(found, dict):
                raise VaerlLoadError(f"{where}: expected an object of scores")
            for name, value in found.items():
                if isinstance(value, list):
                    _check_goals(value if name == "goals" else [], f"{where}:{name}")
                elif name not in ("env", "deterministic"):
                    _check_number(value, f"{where}:{name}")
        return data

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, each with `global_step`; an incomplete last line is left out.

        Of very many rows only some are read; faulty ones are left out, with one line on stderr
        (`vaerl.track.rows`). Raises VaerlLoadError if the file cannot be read.
        """
        if not self.metrics_path.exists():
            return []
        found = read_rows(self._read(self.metrics_path, LOG_LIMIT), str(self.metrics_path))
        if found.problem:
            print(found.problem, file=sys.stderr)
        return found.rows

    def drop_metrics_after(self, step: int) -> None:
        """Delete the rows after `step`, which a resumed run writes again; WriteError."""
        if not self.metrics_path.exists():
            return
        data = self._read(self.metrics_path, LOG_LIMIT)
        files.write_bytes(self.metrics_path, rows_until(data, step, str(self.metrics_path)))

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps (int64) and values (float64) of the rows that have `key`."""
        rows = [row for row in self.metrics() if isinstance(row.get(key), int | float)]
        steps = np.array([row["global_step"] for row in rows], dtype=np.int64)
        return steps, np.array([float(row[key]) for row in rows], dtype=np.float64)


def _check_number(value: Any, where: str, least: float = -math.inf) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= LARGEST:
        legal = "a number" if least == -math.inf else f"a number, {least:g} or more"
        raise VaerlLoadError(f"{where}: got {one_line(repr(value), 60)}, expected {legal}")


def _check_goals(goals: list[Any], where: str) -> None:
    if len(goals) > MOST_EPISODES:
        raise VaerlLoadError(f"{where}: got {len(goals):,}, expected at most {MOST_EPISODES:,}")
    for goal in goals:
        if type(goal) is not int or not -1 <= goal < MOST_EPISODES:
            shown = one_line(repr(goal), 60)
            raise VaerlLoadError(f"{where}: got {shown}, expected numbers of goals, -1 for none")
