"""The table of `modes`: a row for every policy of a task, means with intervals over seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from vaerl.experiments.intervals import interval
from vaerl.experiments.mode_scores import BASE
from vaerl.experiments.mode_tasks import POLICIES, TASKS, TRIED, Task
from vaerl.experiments.records import read_record
from vaerl.runs.directory import versions

Numbers = Mapping[str, float]
"""What `mode_scores.measure` says of one run."""

COLUMNS = (
    ("task", ""),
    ("policy", ""),
    ("seeds", ""),
    ("goals reached", "goals"),
    ("fewest", "goals"),
    ("score", "score"),
    ("its ceiling", "ceiling"),
    ("in no goal", "lost"),
    ("return", "return"),
    ("return, best action", "best_return"),
    ("outside 99 %", "outside_99"),
    ("entropy ≥", "entropy_lower"),
    ("goals removed", "removal"),
    ("obstacles", "obstacles"),
    ("minutes", "minutes"),
)
DIGITS = {"return": 1, "best_return": 1, "minutes": 1, "goals": 1}


def assemble(
    cells: Mapping[tuple[str, str, int], Numbers], command: str, preset: str = "full"
) -> dict[str, Any]:
    """Put the numbers, by (task, policy, seed), into a table of plain data.

    The record holds the runs too, so that others can be added to its table (`read_runs`).
    """
    rows = [
        _row(
            task, name, [numbers for (t, n, _), numbers in cells.items() if (t, n) == (task, name)]
        )
        for task, name in dict.fromkeys((task, name) for task, name, _ in cells)
    ]
    filled = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
    tasks = list(dict.fromkeys(task for task, _, _ in cells))
    return {
        "title": "Which policies keep every mode",
        "command": command,
        "caption": _caption(tasks),
        "columns": [COLUMNS[i][0] for i in filled],
        "rows": [[row[i] for i in filled] for row in rows],
        "notes": [f"{name}: goal {TASKS[name].goal}." for name in tasks if TASKS[name].goal]
        + [f"{name}: {TRIED[name]}." for name in tasks if name in TRIED],
        "versions": {**versions(), "cores": os.cpu_count()},
        "made": _made(tasks, preset),
        "runs": [
            {"task": task, "policy": policy, "seed": seed, **numbers}
            for (task, policy, seed), numbers in cells.items()
        ],
    }


def read_runs(path: Path, preset: str = "full") -> dict[tuple[str, str, int], Numbers]:
    """The numbers of the runs that a record of `assemble` holds, by (task, policy, seed).

    Raises ValueError, one line that names the file, where it is no such record, or one of another
    preset, of other versions, or of settings that a task no longer has.
    """
    if not path.is_file():
        raise ValueError(f"onto: {path} is no file, expected a results.json of this experiment")
    record = read_record(path, ["runs", "made"])
    assert record is not None
    made = record["made"]
    if not isinstance(made, dict) or not isinstance(made.get("settings"), dict):
        raise ValueError(f"onto: {path} does not say with which settings it was made")
    here = _made(made["settings"], preset)
    for key in ("preset", "versions"):
        if made.get(key) != here[key]:
            raise ValueError(
                f"onto: {path} was made with {key} {made.get(key)!r}, not {here[key]!r}"
            )
    for task, settings in made["settings"].items():
        if settings != here["settings"].get(task):
            raise ValueError(f"onto: {path} was made with other settings of {task!r} than today's")
    runs: dict[tuple[str, str, int], Numbers] = {}
    for run in record["runs"] if isinstance(record["runs"], list) else [record["runs"]]:
        cell, numbers = _split(run)
        if cell is None or cell in runs:
            raise ValueError(f"onto: {path} holds {run!r}, no run of this experiment or one twice")
        runs[cell] = numbers
    return runs


def _split(run: Any) -> tuple[tuple[str, str, int] | None, Numbers]:
    """Task, policy and seed of a recorded run, None where it is not one, and its numbers."""
    if not isinstance(run, dict):
        return None, {}
    numbers = {key: value for key, value in run.items() if key not in ("task", "policy", "seed")}
    task, policy, seed = str(run.get("task")), str(run.get("policy")), run.get("seed")
    if task not in TASKS or policy not in POLICIES or not isinstance(seed, int):
        return None, {}
    legal = all(isinstance(numbers.get(key), int | float) for key in {*BASE, *numbers})
    return (task, policy, seed) if legal else None, numbers


def _made(tasks: Iterable[str], preset: str) -> dict[str, Any]:
    """With what runs were made; those of another kind have no place in the same table."""
    return {
        "preset": preset,
        "versions": versions(),
        "settings": {name: _settings(TASKS[name]) for name in tasks if name in TASKS},
    }


def _row(task: str, policy: str, members: list[Numbers]) -> list[str]:
    """One row; the bandit counts the modes of the target instead of its evaluation's goals."""
    members = [{**m, "goals": m.get("modes", m["goals"])} for m in members]
    most = f"{members[0]['num_modes']:.0f}"
    row = [task, policy, str(len(members))]
    for name, key in COLUMNS[3:]:
        values = [m[key] for m in members if key in m]
        if not values:
            row.append("")
        elif name == "fewest":
            row.append(f"{min(values):.0f}")
        elif key == "minutes" or key == "ceiling":
            row.append(f"{mean(values):.{DIGITS.get(key, 3)}f}")
        else:
            cell = interval(values, DIGITS.get(key, 3))
            row.append(f"{cell} of {most}" if key == "goals" else cell)
    return row


def _caption(tasks: list[str]) -> str:
    return (
        "Mean with the 95 % interval (Student's t) over seeds; fewest: goals of the worst seed. "
        "A name that ends in -both adds the forward improvement step to the reverse one of soft "
        "actor-critic. Drawn actions, but for the return of the best one; in the mazes their noise "
        "is kept for 50 steps, so that they push one way (noise_hold). On the bandit also the "
        "share of 10,000 samples outside the target's 99 % region and the lower bound on the "
        "entropy in nats (8 paths a sample); the target has .010 and −.543. On the mazes also the "
        "share of groups of 5 episodes that still reach a goal when half of the goals are removed, "
        "and when obstacles are put in the way. Minutes: of training, beside other work. "
        "The same critic, budget and rates for every policy of a task, a recipe for each step, "
        "heads by density; how many settings were tried for each stands below: "
        + "; ".join(f"{name}: {_settings(TASKS[name])}" for name in tasks)
        + "."
    )


def _settings(task: Task) -> str:
    recipes = ", ".join(f"{kind} {dict(options)}" for kind, options in task.recipes.items())
    heads = ", ".join(f"{name} {dict(options)}" for name, options in task.heads.items())
    return f"{task.steps:,} steps in {task.n_envs} copies, {dict(task.agent)}, {recipes}" + (
        f", heads {heads}" if heads else ""
    )
