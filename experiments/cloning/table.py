"""The table of a study: a row for every policy of a task, means with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from vaerl.experiments.cloning.studies import STUDIES
from vaerl.lab.experiment import Results
from vaerl.lab.stats import interval

KEPT = ("fit_seconds", "judge_seconds", "parameters")


def assemble(study: str, results: Results) -> dict[str, Any]:
    """The record of a study from its finished cells."""
    columns = STUDIES[study].columns
    kept = ("seed", *(key for _, key, _ in columns), *KEPT)
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
            for _, key, digits in columns
        ]
        seconds = f"{mean(data['fit_seconds'] for data in own):.0f}"
        rows.append([task, row, str(count), str(chunk), str(len(own)), *cells, seconds])
    first = {place[0]: own[0] for place, own in groups.items()}
    bounds = [
        f"{key.replace('_', ' ')} {data[key]:.3f} on {task}"
        for task, data in first.items()
        for key in STUDIES[study].bounds
    ]
    return {
        "title": STUDIES[study].title,
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds; "
            f"{STUDIES[study].caption}; {', '.join(bounds)}. NLL in nats a number; CPU seconds of "
            "a fit."
        ),
        "columns": [
            "task", "policy", "demonstrations", "chunk", "seeds",
            *(name for name, _, _ in columns), "CPU s",
        ],
        "rows": rows,
        "data": {
            "-".join(map(str, place)): [
                {k: round(data[k], 4) for k in kept if k in data} for data in own
            ]
            for place, own in groups.items()
        },
        "settings": {f"{r.cell['task']} {r.cell['row']}": r.cell["settings"] for r in results},
    }  # fmt: skip
