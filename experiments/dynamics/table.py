"""The table of `dynamics`: a row a measure, a column a model, means with intervals over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from vaerl.experiments.dynamics.models import MODELS
from vaerl.experiments.dynamics.tasks import TASKS, Measure
from vaerl.lab.stats import interval
from vaerl.runs.directory import versions

Cells = Mapping[Path, Mapping[str, Any]]
"""Results by the path of their file."""

TRIED = (
    "Tried on validation data, random-push, seed 0 (NLL): cvae without KL warm-up −1.781, with it "
    "−2.089 (seed 1 −2.075); without it and 2 blocks, 16 components, lr 5e-3 −1.814, or 2 latents "
    "and 1000 steps −1.808; mixture with lr 1e-2 and hidden (64, 64) −2.111. Warm-up, likewise, on "
    "wet-chicken −.786 without and −.773 with it (planned return −2.353 and −2.367), on the toy "
    "−.295 both.",
    "Likewise on bimodal-wind, regret of the plan in %, two plans a fit. Without blur, mixture: as "
    "it was 92 and 94, with the clock one-hot 90 and 94; so and 10,000 steps 87 and 92, 60,000 "
    "transitions and 6,000 steps −1 and −1 (seed 1: 87 and 93), these and lr 1e-3 91 and 89, or "
    "batches of 1024 87 and 90; cvae 92 and 87, Gaussian 87 and 87. With blur and 6,000 steps: "
    "mixture −1 to 4 over three seeds, with and without the one-hot; with it cvae −1 to 2 over two "
    "seeds, Gaussian 87 and 87; without it the cvae got 93 from the table's seed 0, "
    "which is why it is there.",
    "Likewise on ghost-grid, seed 0 (KL, Hellinger, planned return). Normals over noisy cells, σ "
    ".1 or .15: mixture of 32 .306, .293 at best, cvae with 6 latents .496, .370, 7.55; blur made "
    "it worse (cvae, KL .66 to 1.10). Over whole numbers, 5,000 steps: mixture .078, .124, 8.71, "
    "cvae .091, .141, 8.51, Gaussian 1.69, .727, 7.58.",
    "On acrobot, seed 100, reward a step. Fitted on after each of 25 episodes, 400 steps each: "
    "cvae 1.46, mixture 1.03, Gaussian 1.47 (1200 steps each 1.55). Fitted once to 5,000 "
    "transitions of plans in the true model: 4,000 steps without blur, Gaussian 1.40, mixture .77, "
    "cvae 1.45; "
    "6,000 steps with blur .1, .3 and 1, mixture .97, 1.95, 1.97; blur .3, cvae 1.95; blur 1 and k "
    "= 8, cvae 2.00; blur .3, mixture, 12,000 steps 2.01, lr 1e-3 1.46, hidden (256, 256) 1.92. As "
    "in the table, from its own steps, mixture 2.10.",
    "On pendulum, seed 100: plans of MPC (iCEM, MPPI; 15 to 60 steps ahead; reward and end learned "
    "or known) kept the pole up for 412 steps at most with a Gaussian model, for 65 with a cvae. "
    "Nothing is gained or lost until it falls, and plans in the true simulator, CEM with 15 to 40 "
    "steps ahead, end after 74 to 879 steps too. MBPO, Gaussian model, three members: 8 updates a "
    "step and longer roll-outs 1000 within 3,000 steps; 4 updates and one-step roll-outs 144 after "
    "2,500.",
)
"""What was tried on validation data before the settings of `MODELS` and `TASKS` were fixed."""


def assemble(cells: Cells, command: str) -> dict[str, Any]:
    """Put the results into a table of plain data; rows of a task end with its seconds of CPU."""
    results = [*cells.values()]
    models = [name for name in MODELS if any(r["cell"]["model"] == name for r in results)]
    rows: list[list[str]] = []
    for task in dict.fromkeys(r["cell"]["task"] for r in results):
        own = [r for r in results if r["cell"]["task"] == task]
        for measure in TASKS[task].measures:
            if any(measure.key in r["numbers"] for r in own):
                rows.append(_row(task, measure, own, models))
        seconds = [_seconds(own, model) for model in models]
        rows.append([task, "CPU seconds a seed", "", "", *seconds])
    return {
        "title": "Dynamics models where several things can happen",
        "command": command,
        "caption": _caption(results),
        "columns": ["task", "measure", "truth", "goal", *models],
        "rows": rows,
        "versions": {name: versions()[name] for name in ("vaerl", "python", "torch")},
        "notes": _notes(results),
    }


def _row(
    task: str, measure: Measure, results: Sequence[Mapping[str, Any]], models: Sequence[str]
) -> list[str]:
    values = []
    for model in models:
        found = [
            r["numbers"][measure.key]
            for r in results
            if r["cell"]["model"] == model and measure.key in r["numbers"]
        ]
        values.append(_number(found, measure.digits))
    return [task, measure.label, measure.reference, measure.goal, *values]


def _number(values: Sequence[float | None], digits: int) -> str:
    kept = [value for value in values if value is not None and not math.isnan(value)]
    if len(kept) < len(values):
        return f"{len(kept)} of {len(values)} seeds" + (
            f": {interval(kept, digits)}" if kept else ""
        )
    return interval(kept, digits) if kept else ""


def _seconds(results: Sequence[Mapping[str, Any]], model: str) -> str:
    found = [r["cpu_seconds"] for r in results if r["cell"]["model"] == model]
    return f"{mean(found):.0f}" if found else ""


def _caption(results: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for task in dict.fromkeys(r["cell"]["task"] for r in results):
        cells = [r["cell"] for r in results if r["cell"]["task"] == task]
        budget = cells[0]["budget"]
        counts = {sum(c["model"] == model for c in cells) for model in {c["model"] for c in cells}}
        seeds = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        noise = f", noise σ = {budget['noise']:g}" if budget["noise"] else ""
        blur = f", blur {budget['blur']:g}" if budget.get("blur") else ""
        copies = f" drawn {budget['copies']} times" if budget["copies"] > 1 else ""
        seeds += " seed" if seeds == "1" else " seeds"
        parts.append(
            f"{task}: {budget['transitions']:,} transitions{noise}{copies}{blur}, at most "
            f"{budget['steps']:,} steps of {budget['batch_size']}, {seeds}"
        )
    return (
        "Mean with the 95 % interval (Student's t) over seeds. One budget a task for every model, "
        "a tenth of the transitions held out to stop by; models of whole numbers see no noise. NLL "
        "in nats: a cvae's is an upper bound (K = 256 samples, or 512 codes an episode), an "
        "ensemble's that of its mean law. "
        f"Budgets: {'; '.join(parts)}."
    )


def _notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    settings: dict[str, Mapping[str, Any]] = {}
    apart = []
    for cell in (r["cell"] for r in results):
        name, own = cell["model"], cell["settings"]
        settings[name] = json.loads(json.dumps(asdict(MODELS[name])))
        usual = settings[name]["options"]
        added = [f"{k}={v!r}" for k, v in own["options"].items() if usual.get(k) != v]
        if added:
            apart.append(f"on {cell['task']} {name} with {', '.join(added)}")
    told = "; ".join(
        f"{name}: {s['density']}({', '.join(f'{k}={v!r}' for k, v in s['options'].items())}) "
        f"lr {s['learning_rate']:g}" + (f", {s['members']} members" if s["members"] > 1 else "")
        for name, s in settings.items()
    )
    machines = sorted({r["machine"] for r in results})
    return [
        *TRIED,
        f"Settings: {'; '.join([told, *dict.fromkeys(apart)])}.",
        f"Seconds are of the whole cell (fit, scores, planning) on {'; '.join(machines)}, one "
        "thread, beside other work.",
    ]
