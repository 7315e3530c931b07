"""The table of `modes`: a row for every policy of a task, means with intervals over seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from vaerl.experiments.modes.tasks import POLICIES, TASKS, TRIED, Task
from vaerl.lab.stats import interval
from vaerl.runs.directory import versions

Numbers = Mapping[str, float]
"""What `mode_scores.measure` says of one run."""
Place = tuple[str, str, int]
"""Task, policy and seed of a run."""

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
    cells: Mapping[Place, Numbers],
    command: str,
    preset: str = "full",
    rows: Mapping[tuple[str, str], list[str]] | None = None,
) -> dict[str, Any]:
    """Put the numbers, by (task, policy, seed), into a table of plain data.

    `rows` has more of its rows, by (task, policy). The record holds the runs too, so that others
    can be added to its table (`mode_record`).
    """
    members: dict[tuple[str, str], list[Numbers]] = {}
    for (task, policy, _), numbers in cells.items():
        members.setdefault((task, policy), []).append(numbers)
    all_rows = {**(rows or {}), **{place: _row(*place, own) for place, own in members.items()}}
    table = [all_rows[place] for place in sorted(all_rows, key=in_order)]
    filled = [i for i in range(len(COLUMNS)) if any(row[i] for row in table)]
    tasks = list(dict.fromkeys(row[0] for row in table))
    return {
        "title": "Which policies keep every mode",
        "command": command,
        "caption": _caption(tasks),
        "columns": [COLUMNS[i][0] for i in filled],
        "rows": [[row[i] for i in filled] for row in table],
        "notes": [f"{name}: goal {TASKS[name].goal}." for name in tasks if TASKS[name].goal]
        + [f"{name}: {TRIED[name]}." for name in tasks if name in TRIED],
        "versions": {**versions(), "cores": os.cpu_count()},
        "made": made_with(tasks, preset),
        "runs": [
            {"task": task, "policy": policy, "seed": seed, **numbers}
            for (task, policy, seed), numbers in cells.items()
        ],
    }


def in_order(place: tuple[str, str] | Place) -> tuple[int, ...]:
    """The key that sorts (task, policy) or (task, policy, seed) as the table does."""
    task, policy, *seed = place
    return list(TASKS).index(task), list(POLICIES).index(policy), *seed


def made_with(tasks: Iterable[str], preset: str) -> dict[str, Any]:
    """With what runs were made; those of another kind have no place in the same table."""
    return {
        "preset": preset,
        "versions": versions(),
        "settings": {
            name: f"{TASKS[name].env}, {_settings(TASKS[name])}" for name in tasks if name in TASKS
        },
        "policies": {
            name: f"{policy.density}, {policy.improvement}, {dict(policy.density_options)}"
            for name, policy in POLICIES.items()
        },
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
