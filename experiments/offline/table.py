"""The table of the rows that are finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vaerl.experiments.offline.rows import ROWS
from vaerl.lab.cells import Result
from vaerl.lab.stats import interval


def assemble(results: Sequence[Result]) -> dict[str, Any]:
    """The record: mean and 95 % interval over the seeds of each row."""
    rows = []
    for name, row in ROWS.items():
        own = [r for r in results if r.cell["row"] == name]
        if own:
            rows.append(
                [
                    row.agent,
                    row.density,
                    str(len(own)),
                    interval([r.data["success"] for r in own], 2),
                    interval([r.data["steps"] for r in own], 0),
                    interval([r.data["fit_seconds"] for r in own], 0),
                ]
            )
    first = results[0]
    return {
        "title": "Offline reinforcement learning from noisy play with a cube",
        "caption": (
            f"{first.data['transitions']} transitions, {first.cell['updates']} updates, "
            f"{first.cell['episodes']} episodes a seed; mean ± 95 % interval over seeds."
        ),
        "columns": ["agent", "density", "seeds", "success", "steps", "CPU s"],
        "rows": rows,
        "data": {
            f"{r.cell['row']}-s{r.cell['seed']}": dict(r.data)
            for r in sorted(results, key=lambda r: (r.cell["row"], r.cell["seed"]))
        },
    }
