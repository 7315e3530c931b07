"""Which densities make good dynamics models, where several things can happen?

Tasks × models × seeds, one budget and one fit (`dynamics_models`) for every model of a task. Tasks
with a known law give NLL, calibration, energy distance, mode coverage and spurious mass; where a
plan's worth is known, the model is planned with too and the plan is played in the true environment.
A latent density is scored by its lower bound, so its printed NLL is at least its true one; an
ensemble by the mean law of its members. Settings were chosen with --validation, which draws all
data anew.

Files: out/cells/ (one result a cell and what pictures need; a finished cell is not repeated),
out/results.json (the table), out/figures/.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.experiments.dynamics.figures import draw_figures
from vaerl.experiments.dynamics.models import MODELS, Budget, Model
from vaerl.experiments.dynamics.table import Cells, assemble
from vaerl.experiments.dynamics.tasks import TASKS, Setting, Task, debug_task
from vaerl.lab.cells import each_result
from vaerl.lab.commands import calls_for
from vaerl.names import check_name
from vaerl.runs.console import print_table, training_bar
from vaerl.threads import limit_threads

PRESETS = ("full", "debug")
DEBUG_MODELS = ("mean-only", "mixture", "cvae", "cvae-episode")  # where none are named


@dataclass(frozen=True)
class Cell:
    """One place of the table: who learns what from which seed, under which settings."""

    task: str
    model: str
    seed: int
    preset: str
    settings: Model
    budget: Budget
    validation: bool = False

    def path(self, out: Path) -> Path:
        """Where the result lies; what pictures need lies beside it as .safetensors."""
        name = f"{self.task}-validation" if self.validation else self.task
        return out / "cells" / f"{name}.{self.model}.s{self.seed}.json"

    def record(self) -> dict[str, Any]:
        """The cell as plain data: a saved result with the same record is reused."""
        return json.loads(json.dumps(asdict(self)))

    def setting(self) -> Setting:
        """What the task's own function takes."""
        return Setting(
            _task(self.task, self.preset), self.settings, self.budget, self.seed, self.validation
        )


def make_cells(
    preset: str = "full",
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    validation: bool = False,
) -> list[Cell]:
    """The cells in the order in which they are run: seeds outermost, so that all tasks get one.

    Raises ValueError for an unknown preset, task or model.
    """
    check_name("preset", preset, PRESETS)
    for name in tasks or ():
        check_name("task", name, TASKS)
    for name in models or ():
        check_name("model", name, MODELS)
    if preset == "debug" and models is None:
        models = DEBUG_MODELS
    chosen = tasks or tuple(TASKS)
    most = 1 if preset == "debug" else max(TASKS[name].seeds for name in chosen)
    return [
        Cell(
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
    ]  # fmt: skip


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
    """Fit and score the cells asked for, print the table of all finished ones, draw the pictures.

    Args:
        out: folder of the results; finished cells found there are reused.
        preset: "full", or "debug", which runs whole in seconds.
        tasks: names in `TASKS`, all if None.
        models: names in `MODELS`, all if None (four of them in "debug"); the one with a code an
            episode is for hidden-friction alone.
        seeds: the task's own number of seeds from 0 on if None.
        jobs: cells at once, each in its own process with one torch thread.
        validation: data that no table is made of, to choose settings.
        table: fit nothing, only make table and pictures again.
    """
    check_positive("jobs", jobs)
    cells = make_cells(preset, tasks, models, seeds, validation)
    out = Path(out)
    if not table:
        run_cells(cells, out, jobs)
    finished = read_cells(out, validation)
    if not finished:
        raise ValueError(f"out: {out} holds no finished cell; run without --table first")
    record = assemble(finished, "\n".join(command_lines(finished.values())))
    path = out / "results.json"
    files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    print_table(record["title"], record["columns"], record["rows"])
    for line in (record["caption"], *record["notes"]):
        print(line)
    draw_figures(finished, out)
    return path


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Fit and score one cell on one torch thread, write and give its result."""
    start = time.process_time()
    with limit_threads(), torch.random.fork_rng(devices=[]):
        setting = cell.setting()
        scored = setting.task.measure(setting)
    result = {
        "cell": cell.record(),
        "numbers": {k: None if math.isnan(v) else v for k, v in scored.numbers.items()},
        "cpu_seconds": round(time.process_time() - start, 2),
        "machine": f"{os.cpu_count()} cores",
    }
    path = cell.path(out)
    files.make_directory(path.parent)
    if scored.pictures:
        files.write_bytes(path.with_suffix(".safetensors"), save(scored.pictures))
    files.write_text(path, jsonio.dumps(result, indent=1))
    return result


def run_cells(cells: Sequence[Cell], out: Path, jobs: int = 1) -> None:
    """Run the cells that are not on disk yet, under one progress bar."""
    missing = [cell for cell in cells if not is_done(cell, out)]
    with training_bar({"cells": len(cells)}) as advance:
        for number, _ in enumerate(
            each_result(partial(run_cell, out=out), missing, jobs), len(cells) - len(missing) + 1
        ):
            advance("cells", number)


def is_done(cell: Cell, out: Path) -> bool:
    """Whether a result with the very same settings lies on disk; settings that it does not name
    came later and stand at their defaults."""
    path = cell.path(out)
    if not path.exists():
        return False
    saved = jsonio.loads(path.read_bytes(), path.name)["cell"]
    saved["budget"] = asdict(Budget(**saved["budget"]))
    return saved == cell.record()


def read_cells(out: Path, validation: bool = False) -> Cells:
    """All finished results of a folder, by the path of their file, in the order of the table."""
    found = {
        path: jsonio.loads(path.read_bytes(), path.name)
        for path in sorted(out.glob("cells/*.json"))
    }
    kept = {p: r for p, r in found.items() if r["cell"]["validation"] == validation}
    return dict(sorted(kept.items(), key=lambda item: _place(item[1]["cell"])))


def command_lines(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The commands that make finished cells again: one for all tasks with one choice of models and
    seeds."""
    kinds: dict[tuple[str, bool], list[tuple[str, str, int]]] = {}
    for result in results:
        cell = result["cell"]
        kind = kinds.setdefault((cell["preset"], cell["validation"]), [])
        kind.append((cell["task"], cell["model"], cell["seed"]))
    return [
        " ".join(
            [
                "vaerl experiment dynamics",
                *([f"--preset {preset}"] if preset != "full" else []),
                f"--tasks {','.join(call.tasks)}",
                f"--models {','.join(call.names)}",
                f"--seeds {','.join(map(str, call.seeds))}",
                *(["--validation"] if validation else []),
            ]
        )
        for (preset, validation), cells in kinds.items()
        for call in calls_for(cells)
    ]


def _task(name: str, preset: str) -> Task:
    return debug_task(TASKS[name]) if preset == "debug" else TASKS[name]


def _place(cell: Mapping[str, Any]) -> tuple[int, int, int]:
    return list(TASKS).index(cell["task"]), list(MODELS).index(cell["model"]), cell["seed"]
