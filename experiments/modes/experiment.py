"""Which policies keep every mode? Maximum-entropy learning online, density against density.

Protocol. Tasks with several equally good goals × policies × seeds, `vaerl.agents.SAC` with the same
critic, budget and learning rates for every policy of a task (`tasks.py`), one thread a run. After
the last step, episodes with drawn actions count the goals: 1000 of them, 2000 on the bandit, 400 in
the mazes and 500 there in groups of five with obstacles. In the mazes the noise of a draw is kept
for 50 steps, in training and here (`noise_hold`).
Reported: goals reached; the multi-goal score Σ_i min(n_i / E, 1/G) beside the ceiling that E
episodes of a perfect policy reach; the share of episodes that end in no goal; the return; in the
mazes also DrAC's two tests of robustness. A policy is a density with an improvement step
(`vaerl.agents.improvement`): "both" and "forward" fit draws from exp(Q/α), "reverse" is SAC's own.

Files: out/<task>-<policy>-s<seed>/ (one run each; an interrupted one goes on), out/cells/,
out/results.json (the table of all finished runs, and their numbers), out/figures/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vaerl.experiments.modes.earlier import read_earlier
from vaerl.experiments.modes.figures import draw_figures
from vaerl.experiments.modes.scores import score
from vaerl.experiments.modes.table import Rows, assemble, in_order
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.cells import Desk, Measured, write_cell
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.table import command_lines
from vaerl.lab.training import RunCell, finish_run
from vaerl.names import check_name

PRESETS = ("full", "debug")


@dataclass(frozen=True)
class Run(RunCell):
    """One policy on one task."""

    task: str
    policy: str

    @property
    def name(self) -> str:
        """Also that of the run's folder."""
        return f"{self.task}-{self.policy}-s{self.seed}"


def make_run(task: str, policy: str, seed: int, preset: str) -> Run:
    """The cell of a policy on a task."""
    where, who = TASKS[task], POLICIES[policy]
    settings = {
        "env": where.env,
        "density": who.density,
        "density_options": who.options(where),
        "steps": where.steps,
        "n_envs": where.n_envs,
        "agent_options": {
            **where.agent,
            "improvement": who.improvement,
            **where.recipes[who.improvement],
        },
    }
    return Run(seed, preset, settings, task, policy)


def make_cells(
    preset: str = "full",
    tasks: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Run]:
    """The cells in the order in which they run, seeds outermost.

    Raises:
        ValueError: an unknown preset, task or policy, or a choice without any cell.
    """
    debug = check_name("preset", preset, PRESETS) == "debug"
    chosen = tasks or [name for name in TASKS if not name.startswith("maze")]
    for name in chosen:
        check_name("task", name, TASKS)
    for name in policies or ():
        check_name("policy", name, POLICIES)
    counts = {
        (task, name): 1 if debug else TASKS[task].seeds.get(name, TASKS[task].fewer)
        for task in chosen
        for name in policies or POLICIES
    }
    cells = [
        make_run(task, name, seed, preset)
        for seed in (range(max(counts.values())) if seeds is None else seeds)
        for (task, name), count in counts.items()
        if seeds is not None or seed < count
    ]
    if not cells:
        raise ValueError(
            f"seeds: got none for {', '.join(policies or POLICIES)} on {', '.join(chosen)}, "
            "expected some: these have no seeds by default"
        )
    return cells


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    policies: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 2,
    table: bool = False,
    onto: Path | None = None,
) -> Path:
    """Train the unfinished runs, print the table of all finished ones, draw the pictures.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs in seconds.
        tasks: bandit, multigoal, multigoal-cooled, point-mass, maze-simple, maze-medium,
            maze-hard; by default all but the mazes.
        policies: gaussian, mixture, flow, cvae, cvae-L2, each also with -both; all by default.
        seeds: by default as many as the task gives each policy, from 0 on.
        jobs: processes, each with one thread.
        table: train nothing, only make the table and the pictures again.
        onto: a results.json of this preset and these settings and versions; its runs are added to
            those of `out`.
    """
    cells = make_cells(preset, tasks, policies, seeds)
    out = Path(out)
    rows: Rows = {}
    for path in (out / "results.json", onto):
        runs, more = read_earlier(path, preset, strict=path is onto)
        rows |= more
        for place, numbers in runs.items():
            cell = make_run(*place, preset)
            if not cell.path(out).exists():
                write_cell(cell, out, Measured({"numbers": numbers}))
    experiment = Experiment(measure, partial(table_of, preset, rows), draw_figures, apart=True)
    return experiment.run(
        cells,
        out,
        command="vaerl experiment modes",
        jobs=jobs,
        only_table=table,
        others=partial(_is_of_today, preset),
    )


def measure(cell: Run, desk: Desk) -> Measured:
    """Train one policy and score it."""
    run_directory = finish_run(cell.config(desk.path.parent.parent), desk.tick)
    numbers, traces = score(run_directory)
    return Measured({"numbers": numbers}, traces)


def table_of(preset: str, rows: Rows, results: Results) -> dict[str, Any]:
    """The table of runs, and of earlier rows whose runs are unknown; the commands that make it."""
    runs = {(r.cell["task"], r.cell["policy"], r.cell["seed"]): r.data["numbers"] for r in results}
    runs = {place: runs[place] for place in sorted(runs, key=in_order)}
    record = assemble(runs, preset, rows)
    places = []
    for task, policy, count in (row[:3] for row in record["rows"]):
        seeds = [seed for t, p, seed in runs if (t, p) == (task, policy)]
        if len(seeds) != int(count):  # an earlier row
            seeds = [*range(int(count))]
        places += [(task, policy, seed) for seed in seeds]
    return {**record, "command": "\n".join(command_lines("modes", run, places, preset=preset))}


def _is_of_today(preset: str, cell: Mapping[str, Any]) -> bool:
    """Whether a finished run has the settings that its task has now."""
    known = cell["task"] in TASKS and cell["policy"] in POLICIES
    return known and make_run(cell["task"], cell["policy"], cell["seed"], preset).as_data() == cell
