"""Which densities make good dynamics models, where several things can happen?

Tasks × models × seeds, one budget and one fit for every model of a task (`models.py`). Tasks with a
known law give NLL, calibration, energy distance, mode coverage and spurious mass. Where the worth
of a plan is known, the model is planned with and the plan is played in the true environment. A
latent density is scored by its lower bound, so its printed NLL is at least its true one; an
ensemble is scored by the mean law of its members. Settings were chosen with --validation, which
draws new data.

Files: out/cells/, out/results.json (the table of all finished cells), out/figures/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaerl.experiments.dynamics.figures import draw_figures
from vaerl.experiments.dynamics.models import MODELS, Budget, Model
from vaerl.experiments.dynamics.table import assemble
from vaerl.experiments.dynamics.tasks import TASKS, Setting, Task, debug_task
from vaerl.lab.cells import Cell, Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.table import command_lines
from vaerl.names import check_name

PRESETS = ("full", "debug")
DEBUG_MODELS = ("mean-only", "mixture", "cvae", "cvae-episode")  # by default


@dataclass(frozen=True)
class Fit(Cell):
    """A task, a model, a seed and the settings of the fit."""

    task: str
    model: str
    seed: int
    preset: str
    settings: Model
    budget: Budget
    validation: bool = False

    @property
    def name(self) -> str:
        """Such as toy-validation.cvae.s0."""
        task = f"{self.task}-validation" if self.validation else self.task
        return f"{task}.{self.model}.s{self.seed}"


def make_cells(
    preset: str = "full",
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    validation: bool = False,
) -> list[Fit]:
    """The cells in the order in which they run: seeds outermost, so that every task gets one soon.

    Raises:
        ValueError: an unknown preset, task or model.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    for name in tasks or ():
        check_name("task", name, TASKS)
    for name in models or ():
        check_name("model", name, MODELS)
    if debug and models is None:
        models = DEBUG_MODELS
    chosen = tasks or tuple(TASKS)
    most = 1 if debug else max(TASKS[name].seeds for name in chosen)
    return [
        Fit(
            name,
            model,
            seed,
            preset,
            TASKS[name].settings(model),
            _task(name, preset).budget,
            validation,
        )
        for seed in (range(most) if seeds is None else seeds)
        for name in chosen
        if seeds is not None or seed < TASKS[name].seeds
        for model in TASKS[name].models
        if models is None or model in models
    ]


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    models: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 1,
    validation: bool = False,
    table: bool = False,
) -> Path:
    """Fit and score the requested cells, print the table of all finished ones, draw the pictures.

    Args:
        out: folder of the results; finished cells found there are reused.
        preset: "full", or "debug", which runs in seconds.
        tasks: names; all by default.
        models: names; all by default (four of them in "debug"). "cvae-episode" is for
            hidden-friction alone, "cvae-latents-8" for acrobot.
        seeds: by default as many as the task wants, from 0 on.
        jobs: processes, each with one thread.
        validation: other data, for choosing settings; the table is of such cells alone.
        table: fit nothing, only make the table and the pictures again.
    """
    return DYNAMICS.run(
        make_cells(preset, tasks, models, seeds, validation),
        out,
        command="vaerl experiment dynamics",
        jobs=jobs,
        only_table=table,
        others=lambda cell: cell["validation"] == validation,
    )


def measure(cell: Fit, desk: Desk) -> Measured:
    """Fit and score one model on one task."""
    task = _task(cell.task, cell.preset)
    scored = task.measure(Setting(task, cell.settings, cell.budget, cell.seed, cell.validation))
    numbers = {k: None if math.isnan(v) else v for k, v in scored.numbers.items()}
    return Measured({"numbers": numbers}, scored.pictures)


def table_of(results: Results) -> dict[str, Any]:
    """The table, and the commands that make it: one for each choice of models and seeds."""
    kinds: dict[tuple[str, bool], list[tuple[str, str, int]]] = {}
    ordered = sorted(results, key=lambda result: _place(result.cell))
    for cell in (result.cell for result in ordered):
        kind = kinds.setdefault((cell["preset"], cell["validation"]), [])
        kind.append((cell["task"], cell["model"], cell["seed"]))
    lines = [
        line
        for (preset, validation), cells in kinds.items()
        for line in command_lines("dynamics", run, cells, preset=preset, validation=validation)
    ]
    return {**assemble(ordered), "command": "\n".join(lines)}


DYNAMICS = Experiment(measure, table_of, draw_figures)


def _task(name: str, preset: str) -> Task:
    return debug_task(TASKS[name]) if preset == "debug" else TASKS[name]


def _place(cell: Mapping[str, Any]) -> tuple[int, int, int]:
    return list(TASKS).index(cell["task"]), list(MODELS).index(cell["model"]), cell["seed"]
