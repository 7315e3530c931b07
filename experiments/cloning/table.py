"""The table of a study: a row for every policy of a task, means with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from vaerl.experiments.cloning.studies import STUDIES
from vaerl.lab.experiment import Results
from vaerl.lab.stats import interval

COLUMNS = (
    ("success", "success", 3),
    ("entropy", "entropy", 3),
    ("pooled", "pooled", 3),
    ("ways", "ways", 1),
    ("NLL", "nll", 3),
)
KEPT = ("success", "entropy", "pooled", "ways", "nll", "fit_seconds", "judge_seconds", "parameters")


def assemble(study: str, results: Results) -> dict[str, Any]:
    """The record of a study from its finished cells."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        cell = result.cell
        place = (cell["task"], cell["row"], cell["demonstrations"], cell["chunk"])
        groups.setdefault(place, []).append({"seed": cell["seed"], **result.data})
    rows = []
    for place, own in groups.items():
        task, row, count, chunk = place
        cells = [
            interval([data[key] for data in own], digits) if key in own[0] else ""
            for _, key, digits in COLUMNS
        ]
        seconds = f"{mean(data['fit_seconds'] for data in own):.0f}"
        rows.append([task, row, str(count), str(chunk), str(len(own)), *cells, seconds])
    ceilings = {place[0]: own[0]["ceiling"] for place, own in groups.items()}
    return {
        "title": STUDIES[study].title,
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds. Entropy over the ways of "
            "successful episodes from one first state, at most "
            + ", ".join(f"{value:.3f} on {task}" for task, value in ceilings.items())
            + "; pooled: over all first states. NLL in nats a number; CPU seconds of a fit."
        ),
        "columns": [
            "task", "policy", "demonstrations", "chunk", "seeds",
            *(name for name, _, _ in COLUMNS), "CPU s",
        ],
        "rows": rows,
        "data": {
            "-".join(map(str, place)): [
                {k: round(data[k], 4) for k in ("seed", *KEPT) if k in data} for data in own
            ]
            for place, own in groups.items()
        },
        "settings": {r.cell["task"]: r.cell["settings"] for r in results},
    }  # fmt: skip
