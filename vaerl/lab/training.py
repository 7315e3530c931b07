"""A run of `vaerl train` as the work of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaerl.checkpoint.read import list_checkpoints
from vaerl.lab.cells import Cell
from vaerl.lab.pool import Tick
from vaerl.report.pictures import Painter
from vaerl.runs.clone import resolve
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.train import MakePainter, read_config, train


@dataclass(frozen=True)
class RunCell(Cell):
    """One training; `settings` are those of its TrainConfig beside seed and folder."""

    seed: int
    preset: str
    settings: Mapping[str, Any]

    @property
    def work(self) -> float:
        """Steps, or updates."""
        return float(self.settings["steps"])

    def config(self, out: Path, **more: Any) -> TrainConfig:
        """The run in its folder, which is named as the cell."""
        return TrainConfig.measured_at_end(
            self.preset, seed=self.seed, out=str(out / self.name), **self.settings, **more
        )


def finish_run(config: TrainConfig, tick: Tick, painter: MakePainter = Painter) -> RunDirectory:
    """Train the run to its end unless it is finished; `tick` gets the steps done.

    An interrupted run goes on from its last checkpoint; before its first, it starts again.
    `painter` draws during training.

    Raises:
        ValueError: the folder holds a run with other settings.
        KeyboardInterrupt: the run was stopped; its state is saved.
    """
    if not is_finished(config):
        there = RunDirectory(config.out)
        # a killed run without a checkpoint has only a cell's own numbers, which are made again
        again = (
            there.config_path.exists()
            and there.status()["state"] != "finished"
            and not list_checkpoints(there.checkpoints_path)
            and not there.episodes_path.exists()
        )
        run = train(config, overwrite=again, resume=not again, on_step=tick, painter=painter)
        if run.status()["state"] == "stopped":
            raise KeyboardInterrupt
    return RunDirectory(config.out)


def is_finished(config: TrainConfig) -> bool:
    """Whether the run that `config` describes has been trained and evaluated to its end.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    run = RunDirectory(config.out)
    if not run.config_path.exists():
        return False
    if difference := read_config(run).difference(resolve(config)[0], "steps"):
        raise ValueError(
            f"{run.path}: made with other settings ({difference}); choose another --out"
        )
    return run.status()["state"] == "finished" and run.evaluation() is not None
