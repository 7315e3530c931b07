"""The table of `dynamics`: a row a measure, a column a model, means with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from vaerl.experiments.dynamics.models import MODELS
from vaerl.experiments.dynamics.tasks import TASKS, Measure
from vaerl.lab.experiment import Results
from vaerl.lab.stats import interval
from vaerl.lab.table import quantity


def assemble(results: Results) -> dict[str, Any]:
    """The table of plain data; the rows of a task end with its CPU seconds."""
    models = [name for name in MODELS if any(r.cell["model"] == name for r in results)]
    rows: list[list[str]] = []
    tasks = [*dict.fromkeys(r.cell["task"] for r in results)]
    for task in tasks:
        own = [r for r in results if r.cell["task"] == task]
        for measure in TASKS[task].measures:
            if any(measure.key in r.data["numbers"] for r in own):
                rows.append(_row(task, measure, own, models))
        seconds = [_seconds(own, model) for model in models]
        rows.append([task, "CPU seconds a seed", "", "", *seconds])
    return {
        "title": "Dynamics models where several things can happen"
        if len(tasks) > 1
        else f"Dynamics models on {tasks[0]}",
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds. The NLL in nats of a cvae is an "
            "upper bound (K = 256 samples, or 512 codes an episode), that of an ensemble belongs "
            "to its mean law."
        ),
        "columns": ["task", "measure", "truth", "goal", *models],
        "rows": rows,
        "notes": ["CPU seconds: fit, scores and planning on one thread, beside other work."],
        "settings": _settings(results),
        "data": {r.path.stem: {"cell": dict(r.cell), **r.data} for r in results},
    }


def _row(task: str, measure: Measure, results: Results, models: Sequence[str]) -> list[str]:
    values = []
    for model in models:
        found = [
            r.data["numbers"][measure.key]
            for r in results
            if r.cell["model"] == model and measure.key in r.data["numbers"]
        ]
        values.append(_number(found, measure.digits))
    return [task, measure.label, measure.reference, measure.goal, *values]


def _number(values: Sequence[float | None], digits: int) -> str:
    kept = [value for value in values if value is not None and not math.isnan(value)]
    if len(kept) < len(values):
        return f"{len(kept)} of {quantity(len(values), 'seed')}" + (
            f": {interval(kept, digits)}" if kept else ""
        )
    return interval(kept, digits) if kept else ""


def _seconds(results: Results, model: str) -> str:
    found = [r.data["cpu_seconds"] for r in results if r.cell["model"] == model]
    return f"{mean(found):.0f}" if found else ""


def _settings(results: Results) -> dict[str, Any]:
    """The budget and the seeds of every task, and the settings of its models."""
    found: dict[str, Any] = {}
    for cell in (result.cell for result in results):
        task = found.setdefault(cell["task"], {"budget": cell["budget"], "seeds": {}, "models": {}})
        task["seeds"].setdefault(cell["model"], []).append(cell["seed"])
        task["models"][cell["model"]] = cell["settings"]
    return found
