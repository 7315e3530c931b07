"""A trial is a run of `vaerl train` in the folder of its sweep; its scores are a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaerl.disk.errors import only_looks
from vaerl.envs.making import import_environments
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Results
from vaerl.lab.pool import Tick
from vaerl.lab.stats import interval
from vaerl.lab.training import finish_run
from vaerl.report import report
from vaerl.report.pictures import Painter
from vaerl.runs.build import check_config
from vaerl.runs.clone import resolve
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.train import MakePainter
from vaerl.sweep.spec import Sweep, label, merged

REPORTED = 100
"""Most runs in a report: their curves share a picture, and each policy is loaded."""
KINDS = ("stochastic", "deterministic")
SHOWN = {
    "return_mean": "return",
    "success_rate": "success",
    "multi_goal_score": "multi-goal score",
}
"""Scores in the table, where the trials have them."""


@dataclass(frozen=True)
class Trial(Cell):
    """One training of a grid."""

    label: str
    """Says which values of the grid it has."""
    values: Mapping[str, Any]
    """Those values, by field."""
    seed: int
    train: Mapping[str, Any]
    """The fields that all trials share."""
    debug: bool = False
    """Whether it is tiny."""

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return "-".join(filter(None, (self.label, f"s{self.seed}")))

    @property
    def work(self) -> float:
        """Steps, or updates."""
        return float(self.config(Path()).steps)

    def config(self, out: Path) -> TrainConfig:
        """The run in its folder."""
        return make_config(self.train, self.values, self.seed, out / self.name, self.debug)


def make_config(
    train: Mapping[str, Any], values: Mapping[str, Any], seed: int, out: Path, debug: bool
) -> TrainConfig:
    """The training with these values; on W&B its group is named as the folder above it.

    Raises:
        ValueError: illegal values.
    """
    defaults = {
        "agent": TrainConfig.agent,
        "density": TrainConfig.density,
        "wandb_group": out.parent.resolve().name[:128],
    }
    own = {"seed": seed, "out": str(out)}
    config = TrainConfig.from_dict({**defaults, **merged(train, values), **own})
    return config.debug() if debug else config


def make_trials(sweep: Sweep, debug: bool = False) -> list[Trial]:
    """The trials of a grid.

    Raises:
        ValueError: a combination is illegal, or two have the same name.
    """
    trials: dict[str, Trial] = {}
    for values, seed in sweep.combinations():
        trial = Trial(label(values), values, seed, sweep.train, debug)
        if trial.name in trials:
            raise ValueError(
                f"grid: got {values!r} and {dict(trials[trial.name].values)!r}, expected values "
                f"with different names, both are {trial.name!r}"
            )
        if seed == sweep.seeds[0]:
            check_config(resolve(trial.config(Path()))[0])
        trials[trial.name] = trial
    return list(trials.values())


def measure(trial: Trial, desk: Desk) -> Measured:
    """Train a run to its end; the scores of its evaluation."""
    return Measured(scores(run_trial(trial.config(folder_of(desk)), desk.tick)))


def run_trial(config: TrainConfig, tick: Tick, painter: MakePainter = Painter) -> RunDirectory:
    """Train a run to its end; the module of the user's environment is imported in each process."""
    if module := config.env.rpartition(":")[0]:
        import_environments(module)
    return finish_run(config, tick, painter)


def folder_of(desk: Desk) -> Path:
    """The folder of the sweep: OUT, for a result in OUT/cells."""
    return desk.path.parent.parent


def scores(run: RunDirectory) -> dict[str, Any]:
    """The numbers of the final evaluation, by kind and name, and the name of the run."""
    found = run.evaluation() or {}
    return {
        "run": run.name,
        **{
            kind: {key: value for key, value in found[kind].items() if isinstance(value, float)}
            for kind in KINDS
        },
    }


def assemble(sweep: Sweep, results: Results) -> dict[str, Any]:
    """The table: a row for each combination, means over seeds; the scores of every run."""
    groups: dict[str, list[Any]] = {}
    for result in results:
        groups.setdefault(result.cell["label"], []).append(result)
    shown = [key for key in SHOWN if all(key in r.data["stochastic"] for r in results)]
    rows = []
    for own in groups.values():
        values = [str(own[0].cell["values"][name]) for name in sweep.grid]
        cells = [
            interval([r.data[kind][key] for r in own], 1 if key == "return_mean" else 3)
            for key in shown
            for kind in KINDS
        ]
        seconds = interval([r.data["cpu_seconds"] for r in own], 0)
        rows.append([*(values or ["all"]), str(len(own)), *cells, seconds])
    names = [name.rpartition(".")[2] for name in sweep.grid] or [""]
    return {
        "title": f"Sweep of {len(results)} trials",
        "caption": "Scores of the final evaluation, with actions drawn from the policy and with "
        "its best actions: mean ± half of the 95 % interval (Student's t) over seeds.",
        "columns": [
            *names,
            "seeds",
            *(f"{SHOWN[key]}, {how}" for key in shown for how in ("drawn", "best")),
            "CPU seconds",
        ],
        "rows": rows,
        "runs": [{**r.cell["values"], "seed": r.cell["seed"], **r.data} for r in results],
    }


def write_report(names: Sequence[str], out: Path) -> None:
    """OUT/report.html about the first `REPORTED` of these runs; a fault there is only printed."""
    if len(names) > REPORTED:
        print(f"report: the first {REPORTED} of {len(names)} runs")
    with only_looks("report", interrupted=False):
        print(report([out / name for name in names[:REPORTED]], out / "report.html"))
