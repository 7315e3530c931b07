"""The files of a run that a report reads: configuration, log, last evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaerl.disk.errors import VaerlLoadError
from vaerl.runs.directory import RunDirectory
from vaerl.runs.train import read_config

RunLike = RunDirectory | str | os.PathLike[str]


@dataclass(frozen=True)
class RunRecord:
    """One run as read from disk."""

    directory: RunDirectory
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    status: Mapping[str, Any]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    label: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.name

    @property
    def agent(self) -> str:
        return str(self.config["agent"])

    @property
    def density(self) -> str:
        return str(self.config["density"])

    @property
    def env(self) -> str:
        return str(self.config["env"])

    @property
    def env_options(self) -> Mapping[str, Any]:
        return self.config.get("env_options", {})

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def group(self) -> tuple[str, str]:
        """Agent and density. Seeds of one group and environment are averaged."""
        return self.agent, self.density

    @property
    def steps(self) -> int:
        """Environment steps done."""
        logged = max((int(row["global_step"]) for row in self.rows), default=0)
        return max(logged, int(self.status["steps"]))

    @property
    def finished(self) -> bool:
        return self.status["state"] == "finished"

    @property
    def seconds(self) -> float | None:
        """Wall time of training; up to the last row of the log if the run has not ended."""
        trained = self.status.get("train_seconds")
        return self.last("time") if trained is None else float(trained)

    @property
    def goals(self) -> list[int]:
        """The goal of each episode of the final evaluation, −1 for none; [] without one."""
        return [int(goal) for goal in self.evaluation.get("stochastic", {}).get("goals", ())]

    @property
    def final_return(self) -> float | None:
        """Mean return of the last evaluation, otherwise of the last training episodes."""
        evaluated = self.evaluated("return_mean")
        if evaluated is not None:
            return evaluated
        training = self.last("rollout/ep_rew_mean")
        return self.last("rollout/ep_rew") if training is None else training

    def evaluated(self, name: str, kind: str = "stochastic") -> float | None:
        """A score such as "return_mean" of the final evaluation, otherwise the last one logged.

        `kind` is "stochastic" (actions drawn from the policy) or "deterministic" (its best action).
        """
        figure = self.evaluation.get(kind, {}).get(name)
        if figure is not None or kind != "stochastic":
            return None if figure is None else float(figure)
        return self.last(f"eval/{name}")

    def last(self, key: str) -> float | None:
        """The value logged last under `key`."""
        for row in reversed(self.rows):
            if isinstance(row.get(key), int | float):
                return float(row[key])
        return None


def read_runs(runs: Iterable[RunLike]) -> list[RunRecord]:
    """Read every run, in the order given, each once.

    Raises ValueError, in one line, without runs, for a path that is not a run, for a configuration
    without agent, density or environment, or for a log whose lines are not JSON objects.
    """
    if isinstance(runs, RunDirectory | str | os.PathLike):
        runs = [runs]
    directories = [r if isinstance(r, RunDirectory) else RunDirectory(r) for r in runs]
    unique = {directory.path.resolve(): directory for directory in directories}
    if not unique:
        raise ValueError("runs: got none, expected at least one directory that `vaerl train` wrote")
    return [_read_run(directory.path) for directory in unique.values()]


def _read_run(path: Path) -> RunRecord:
    try:
        directory = RunDirectory.open(path)
        read_config(directory)
        return RunRecord(
            directory,
            directory.config,
            directory.metrics(),
            directory.status(),
            directory.evaluation() or {},
        )
    except VaerlLoadError as error:
        raise ValueError(f"runs: {error}") from error
    except ValueError as error:
        raise ValueError(f"runs: {directory.config_path}: {error}") from error
