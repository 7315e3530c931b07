"""Which policies keep every mode? Maximum-entropy learning online, density against density.

Protocol. Tasks with several equally good goals × policies × seeds, `vaerl.agents.SAC` with the same
critic, budget and learning rates for every policy of a task (`mode_tasks`), one torch thread a run.
After the last step 1000 episodes with drawn actions (bandit 2000, mazes 400, and 500 in groups of
five with obstacles) count the goals. In the mazes the noise of a draw is kept for 50 steps, while
collecting and here (`noise_hold`).
Reported: goals reached, the multi-goal score Σ_i min(n_i / E, 1/G) beside the ceiling that E
episodes of a perfect policy score, the share of episodes that end in no goal, and the return; on
the mazes also DrAC's two tests of robustness. Mean with the 95 % interval of Student's t over
seeds. A policy is a density with an improvement step: "both" and "forward" fit draws from exp(Q/α),
"reverse" is SAC's own (`vaerl.agents.improvement`).

Files: out/<task>-<policy>-s<seed>/ (one run each; finished ones are not repeated, interrupted ones
go on), out/results.json (the table of all finished runs, and their numbers), out/figures/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.disk.errors import RunsFailed, one_line
from vaerl.experiments.modes.figures import draw_figures
from vaerl.experiments.modes.record import NOTHING, Earlier, read_earlier
from vaerl.experiments.modes.scores import Measured, measure
from vaerl.experiments.modes.table import assemble
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.commands import calls_for
from vaerl.lab.parallel import is_finished, train_all
from vaerl.names import check_name
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.console import print_table

PRESETS = ("full", "debug")


class Cell(NamedTuple):
    """One place of the table."""

    task: str
    policy: str
    seed: int

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.task}-{self.policy}-s{self.seed}"


def make_cells(
    preset: str = "full",
    tasks: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells in the order in which they are run, seeds outermost.

    Raises ValueError for an unknown preset, task or policy.
    """
    check_name("preset", preset, PRESETS)
    for name in tasks or ():
        check_name("task", name, TASKS)
    for name in policies or ():
        check_name("policy", name, POLICIES)
    for argument, given in (("tasks", tasks), ("policies", policies), ("seeds", seeds)):
        if given is not None and not given:
            raise ValueError(f"{argument}: got none, expected at least one, or leave it out")
    chosen = tasks or [name for name in TASKS if not name.startswith("maze")]

    def count(task: str, policy: str) -> int:
        if preset == "debug":
            return 1
        settings = TASKS[task]
        return settings.seeds.get(policy, settings.fewer)

    wanted = [
        (task, name, count(task, name))
        for task in chosen
        for name in POLICIES
        if policies is None or name in policies
    ]
    if seeds is not None:
        return [Cell(task, name, seed) for seed in seeds for task, name, _ in wanted]
    most = max(number for *_, number in wanted)
    if not most:
        raise ValueError(
            f"policies: {', '.join(policies or ())} get no seeds on {', '.join(chosen)} by "
            "themselves; name them with --seeds"
        )
    return [
        Cell(task, name, seed)
        for seed in range(most)
        for task, name, number in wanted
        if seed < number
    ]


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
    """Train what is not finished, print the table of all finished runs, draw the pictures.

    Args:
        out: folder of the runs and of the table.
        preset: "full", or "debug", which runs whole in seconds.
        tasks: of bandit, multigoal, multigoal-cooled, point-mass, maze-simple, maze-medium and
            maze-hard (`TASKS`); all but the mazes if None.
        policies: of gaussian, mixture, flow, cvae and cvae-L2, each also with -both (`POLICIES`);
            all if None.
        seeds: as many as the task gives each policy, from 0 on, if None.
        jobs: processes, each with one torch thread.
        table: train nothing, only make table and pictures again.
        onto: a results.json made before with this preset, these settings and versions: its runs
            count in the table where `out` does not hold the same ones. The pictures show those of
            `out` alone.

    A run that fails does not stop the others; it is said at the end, after their table.
    """
    check_positive("jobs", jobs)
    cells = make_cells(preset, tasks, policies, seeds)
    out = Path(out)
    before = NOTHING if onto is None else read_earlier(Path(onto), preset)
    _check_nothing_is_lost(out, preset, before)
    configs = {cell: _config(cell, preset, out) for cell in cells if not table}
    for config in configs.values():
        is_finished(config)  # before the first training: folders of other settings
    path: Path | None = None
    failures: list[str] = []
    for seed in dict.fromkeys(cell.seed for cell in configs):
        own = {cell.folder: config for cell, config in configs.items() if cell.seed == seed}
        try:
            train_all(own, jobs=jobs)
        except RunsFailed as error:  # the other seeds are worth their time all the same
            failures.append(f"seed {seed}: {error}")
        if any(map(is_finished, own.values())):
            path = write_table(out, preset, before)
    if path is None and not failures:
        path = write_table(out, preset, before)
    if path is not None:
        _show(path)
    if failures or path is None:
        raise RunsFailed("; ".join(failures))
    return path


def _show(path: Path) -> None:
    """Print the table task by task, each with the columns that it fills."""
    record = jsonio.loads(path.read_bytes(), str(path))
    for task in dict.fromkeys(row[0] for row in record["rows"]):
        rows = [row for row in record["rows"] if row[0] == task]
        filled = [i for i in range(1, len(rows[0])) if any(row[i] for row in rows)]
        print_table(
            f"{record['title']}: {task}",
            [record["columns"][i] for i in filled],
            [[row[i] for i in filled] for row in rows],
        )
    for line in (record["caption"], *record["notes"]):
        print(line)


def _check_nothing_is_lost(out: Path, preset: str, before: Earlier) -> None:
    """ValueError where the table of `out` has runs that its next one would not have."""
    path = out / "results.json"
    try:
        there = read_earlier(path, preset).places()
    except ValueError:  # none, or one of another preset, version or other settings
        return
    kept = before.places()
    lost = [Cell(*place).folder for place in there if place not in kept]
    lost = [folder for folder in lost if not (out / folder).exists()]
    if lost:
        raise ValueError(
            f"out: {path} holds runs that have no folder there, {lost[0]} the first; "
            "name it with --onto to keep them, or move it away"
        )


def write_table(out: Path, preset: str = "full", before: Earlier = NOTHING) -> Path:
    """The table of all finished runs as out/results.json, and the pictures.

    `before` holds runs of an earlier table, which those of `out` replace.
    """
    finished = read_cells(out, preset)
    found = before.with_runs({cell: found.numbers for cell, found in finished.items()})
    if not found.places():
        raise ValueError(f"out: {out} holds no finished run; run without --table first")
    command = "\n".join(command_lines(map(Cell._make, found.places()), preset))
    record = assemble(found.runs, command, preset, found.rows)
    path = out / "results.json"
    files.make_directory(out)
    files.write_text(path, jsonio.dumps(record, indent=1) + "\n")
    first: dict[tuple[str, str], Path] = {}
    for cell, measured in finished.items():
        first.setdefault((cell.task, cell.policy), measured.traces)
    draw_figures(first, out)
    return path


def read_cells(out: Path, preset: str = "full") -> dict[Cell, Measured]:
    """What all finished runs of a folder contribute, in the order of the table."""
    cells = [
        Cell(task, policy, seed)
        for task in TASKS
        for policy in POLICIES
        for seed in _seeds(out, f"{task}-{policy}-s")
    ]
    finished = [cell for cell in cells if _is_ours(cell, preset, out)]
    return {cell: measure(RunDirectory(out / cell.folder)) for cell in finished}


def _seeds(out: Path, start: str) -> list[int]:
    """Seeds of the folders whose names begin so and end in one."""
    ends = (folder.name[len(start) :] for folder in out.glob(f"{start}*"))
    return sorted(int(end) for end in ends if re.fullmatch(r"0|[1-9]\d{0,8}", end, re.ASCII))


def _is_ours(cell: Cell, preset: str, out: Path) -> bool:
    """Whether a run is finished; one of other settings is left out of the table, with a line."""
    try:
        return is_finished(_config(cell, preset, out))
    except ValueError as error:
        print(f"vaerl: left out of the table: {one_line(error)}", file=sys.stderr)
        return False


def command_lines(cells: Iterable[Cell], preset: str = "full") -> list[str]:
    """The commands that make finished runs again, one for every choice of seeds and policies."""
    option = [f"--preset {preset}"] if preset != "full" else []
    return [
        " ".join(
            [
                "vaerl experiment modes",
                *option,
                f"--tasks {','.join(call.tasks)}",
                f"--policies {','.join(call.names)}",
                f"--seeds {','.join(map(str, call.seeds))}",
            ]
        )
        for call in calls_for(cells)
    ]


def _config(cell: Cell, preset: str, out: Path) -> TrainConfig:
    task, policy = TASKS[cell.task], POLICIES[cell.policy]
    recipe: dict[str, Any] = dict(task.recipes[policy.improvement])
    return TrainConfig.measured_at_end(
        preset,
        env=task.env,
        density=policy.density,
        density_options=policy.options(task),
        seed=cell.seed,
        steps=task.steps,
        n_envs=task.n_envs,
        out=str(out / cell.folder),
        agent_options={**task.agent, "improvement": policy.improvement, **recipe},
    )
