"""A CVAE policy beside simpler ones, in minutes: the main job, behind `make demo`.

Two parts. "clone": 480 scripted demonstrations pass the posts of `vaerl/Avoiding-v0` in 24 ways;
each density is fitted to them in chunks of 16 actions and then acts alone. "reach": SAC learns
online to put the tip of an arm on a target (`vaerl/InverseKinematics-v0`), where the best
maximum-entropy policy is known. Within a part, data, networks and settings are the same for every
density. README.md says how the settings of "reach" were chosen.

Files: out/demonstrations/; out/<part>-<density>-s<seed>/ (the runs; finished ones are not
repeated); out/report.html; out/results.json (the table, and the numbers of every run).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data import collect
from vaerl.experiments.demo.page import write_page
from vaerl.experiments.demo.scores import WITHIN, score_clone, score_reach
from vaerl.experiments.demo.tasks import TASKS
from vaerl.lab.cells import Desk, Measured
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.lab.training import RunCell, finish_run
from vaerl.names import check_name
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig

COLUMNS = (
    *("part", "density", "seeds", "success", "entropy"),
    *("covered", "nats", "error", "CPU seconds"),
)
PRESETS = ("full", "debug")
DEMONSTRATIONS = {"full": 480, "debug": 24}
DEMONSTRATIONS_SEED = 0
SCORES: Mapping[str, Callable[[RunDirectory], Any]] = {"clone": score_clone, "reach": score_reach}


def run(out: Path, preset: str = "full", seeds: list[int] | None = None, jobs: int = 2) -> Path:
    """Record demonstrations, train every policy, and write the report; give its path.

    Args:
        out: folder of the runs, the table and the report.
        preset: "full", or "debug", which runs whole in seconds.
        seeds: of the trainings; 0 if None. The report shows the first.
        jobs: processes, each with one thread.
    """
    check_name("preset", preset, PRESETS)
    out = Path(out)
    chosen = [0] if seeds is None else seeds
    demonstrations = collect(
        TASKS["clone"].settings["env"],
        "expert",
        DEMONSTRATIONS[preset],
        out=out / "demonstrations",
        seed=DEMONSTRATIONS_SEED,
    )
    cells = [
        Run(seed, preset, task.of(density), part, density)
        for seed in chosen
        for part, task in TASKS.items()
        for density in task.densities
    ]
    command = command_line("demo", run, {"preset": preset, "seeds": seeds})
    Experiment(measure, assemble, partial(write_page, demonstrations)).run(
        cells, out, command=command, jobs=jobs
    )
    return out / "report.html"


@dataclass(frozen=True)
class Run(RunCell):
    """One density in one part."""

    part: str
    density: str

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return f"{self.part}-{self.density}-s{self.seed}"

    def config(self, out: Path, **more: Any) -> TrainConfig:
        """The run in its folder."""
        data = str(out / "demonstrations") if self.part == "clone" else ""
        return super().config(out, density=self.density, data=data, **more)


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy and score it."""
    run_directory = finish_run(cell.config(desk.path.parent.parent), desk.tick)
    return Measured(*SCORES[cell.part](run_directory))


def assemble(results: Results) -> dict[str, Any]:
    """One row a density in each part, means with 95 % intervals over seeds; the numbers of runs."""
    rows = []
    for part, task in TASKS.items():
        for density in task.densities:
            own = [
                r.data for r in results if (r.cell["part"], r.cell["density"]) == (part, density)
            ]
            cells = {name: _over(own, name) for name in own[0]}
            if part == "clone":
                row = [cells["success"], cells["entropy"], "", "", ""]
            else:
                row = ["", "", cells["covered"], cells["nats"], cells["error"]]
            rows.append([part, density, str(len(own)), *row, cells["cpu_seconds"]])
        rows.append([part, "ceiling", "", *_ceiling(part, own), ""])
    return {
        "title": "The same data and networks, several densities",
        "caption": "clone: success, and entropy over the 24 ways, of episodes with drawn actions. "
        "reach: share of exact postures covered, distance of the policy from the exact one in "
        "nats, mean distance of the tip from the target. Mean ± half of the 95 % interval "
        "(Student's t) over seeds.",
        "columns": COLUMNS,
        "rows": rows,
        "runs": [
            {name: r.cell[name] for name in ("part", "density", "seed")}
            | {name: value for name, value in r.data.items() if name != "machine"}
            for r in results
        ],
    }


def _over(own: list[Mapping[str, Any]], name: str) -> str:
    values = [data[name] for data in own]
    return interval(values, 3) if isinstance(values[0], float) else str(values[0])


def _ceiling(part: str, own: list[Mapping[str, Any]]) -> list[str]:
    if part == "clone":
        return ["1.000", f"{own[0]['entropy_ceiling']:.3f}", "", "", ""]
    return ["", "", f"{WITHIN:.3f}", "0.000", f"{np.mean([d['error_ceiling'] for d in own]):.3f}"]
