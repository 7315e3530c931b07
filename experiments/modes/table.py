"""The table of `modes`: a row for every policy of a task, means with intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from statistics import mean
from typing import Any

from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.record import plain
from vaerl.lab.stats import ENOUGH, interquartile_mean, interval
from vaerl.runs.directory import versions

Numbers = Mapping[str, float]
"""What `scores.score` gives of a run."""
Place = tuple[str, str, int]
"""Task, policy and seed of a run."""
Rows = dict[tuple[str, str], list[str]]
"""Rows with a cell for each of `COLUMNS`, by task and policy."""

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


def assemble(runs: Mapping[Place, Numbers], preset: str, rows: Rows) -> dict[str, Any]:
    """The table of runs. A row of `rows` stays where there are fewer runs than it has seeds.

    The record holds the runs too, so that they can be added to another table.
    """
    members: dict[tuple[str, str], list[Numbers]] = {}
    for (task, policy, _), numbers in runs.items():
        members.setdefault((task, policy), []).append(numbers)
    kept = {p: row for p, row in rows.items() if len(members.get(p, ())) < int(row[2])}
    all_rows = {**{place: _row(*place, own) for place, own in members.items()}, **kept}
    table = [all_rows[place] for place in sorted(all_rows, key=in_order)]
    filled = [i for i in range(len(COLUMNS)) if any(row[i] for row in table)]
    tasks = list(dict.fromkeys(row[0] for row in table))
    notes = [f"{name}: goal {TASKS[name].goal}." for name in tasks if TASKS[name].goal]
    return {
        "title": "Which policies keep every mode",
        "caption": (
            "Mean with the 95 % interval (Student's t) over seeds; fewest: goals of the worst "
            "seed. Actions are drawn, but for the return of the best one."
        ),
        "columns": [COLUMNS[i][0] for i in filled],
        "rows": [[row[i] for i in filled] for row in table],
        "notes": [*notes, *_over_tasks(members)],
        "made": made_with(tasks, preset),
        "runs": [
            {"task": task, "policy": policy, "seed": seed, **numbers}
            for (task, policy, seed), numbers in runs.items()
        ],
    }


def _over_tasks(members: Mapping[tuple[str, str], list[Numbers]]) -> list[str]:
    """The score over all tasks, of the policies that have enough seeds on each of them."""
    many = {place: own for place, own in members.items() if len(own) >= ENOUGH}
    tasks = list(dict.fromkeys(task for task, _ in many))
    means = {}
    for policy in POLICIES:
        if tasks and all((task, policy) in many for task in tasks):
            scores = [[m["score"] for m in many[task, policy]] for task in tasks]
            means[policy] = interquartile_mean(scores).text(3)
    if len(tasks) < 2 or not means:
        return []
    return [
        f"Interquartile mean of the score over {', '.join(tasks)}, with its 95 % bootstrap "
        f"interval: {'; '.join(f'{name} {text}' for name, text in means.items())}."
    ]


def in_order(place: tuple[str, str] | Place) -> tuple[int, ...]:
    """The key that sorts (task, policy) or (task, policy, seed) as the table does."""
    task, policy, *seed = place
    return list(TASKS).index(task), list(POLICIES).index(policy), *seed


def made_with(tasks: Iterable[str], preset: str) -> dict[str, Any]:
    """How runs were made; runs made otherwise cannot share a table."""
    return {
        "preset": preset,
        "versions": versions(),
        "settings": {name: TASKS[name].settings() for name in tasks},
        "policies": plain({name: asdict(policy) for name, policy in POLICIES.items()}),
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
