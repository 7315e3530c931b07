"""The record of a benchmark: a table for people, the speeds for the next comparison."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from vaerl.benchmarks.timing import Goal, Result
from vaerl.runs.directory import versions

MARGIN = 0.5
"""Share of a recorded speed that a later run has to reach: machines differ, and are noisy."""


def record(results: Sequence[Result], command: str, rounds: int) -> dict[str, Any]:
    """A result as plain data, in the form of docs/results/*.json."""
    rows = [
        [result.group.title if first else "", case.name, *_numbers(result, case.name)]
        for result in results
        for first, case in _marked(result.group.cases)
    ]
    threads = torch.get_num_threads()
    return {
        "title": "Speed against what people use",
        "command": command,
        "caption": (
            "Median time of a unit, and speed against the first rival of its block: the median "
            f"over {rounds} rounds of the ratio within a round, in which all rivals take turns "
            f"(quartiles in brackets). {threads} torch thread{'s' * (threads > 1)}."
        ),
        "columns": ["task", "rival", "ms", "unit", "speed", "goal", "reached"],
        "rows": rows,
        "speeds": {
            result.group.name: {name: round(result.speed(name)[0], 3) for name in result.seconds}
            for result in results
        },
        "notes": [line for result in results for line in result.group.missing],
        "versions": {**versions(), "cores": os.cpu_count(), "machine": platform.machine()},
    }


def _marked(cases: Iterable[Any]) -> Iterable[tuple[bool, Any]]:
    return ((i == 0, case) for i, case in enumerate(cases))


def _numbers(result: Result, case: str) -> list[Any]:
    middle, low, high = result.speed(case)
    goals = [goal for goal in result.group.goals if goal.case == case]
    base = result.group.cases[0].name
    return [
        float(f"{result.milliseconds(case):.4g}"),
        result.group.unit,
        "1" if case == base else f"{middle:.2f} ({low:.2f}–{high:.2f})",
        "; ".join(
            f"≥ {goal.speed:.2g}" + (f" × {goal.against}" if goal.against != base else "")
            for goal in goals
        ),
        "; ".join(_verdict(result, goal) for goal in goals),
    ]


def _verdict(result: Result, goal: Goal) -> str:
    speed = result.speed(goal.case, goal.against)[0]
    return f"yes, {speed:.2f}" if speed >= goal.speed else f"no, {speed:.2f}"


def read_speeds(path: Path) -> dict[str, dict[str, float]]:
    """The speeds of an earlier record: group → rival → times as fast as the group's first rival.

    Raises ValueError, in one line, if the file is no record of `vaerl bench`.
    """
    try:
        speeds = json.loads(path.read_text(encoding="utf-8"))["speeds"]
        return {
            str(group): {str(name): float(speed) for name, speed in rivals.items()}
            for group, rivals in speeds.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"--check: got {path}, expected a bench.json that `vaerl bench` wrote ({error})"
        ) from None


def regressions(
    results: Sequence[Result], speeds: dict[str, dict[str, float]], margin: float = MARGIN
) -> list[str]:
    """A line for each rival that falls below `margin` times its recorded speed."""
    lines = []
    for result in results:
        for name, recorded in speeds.get(result.group.name, {}).items():
            if name not in result.seconds:
                continue
            now = result.speed(name)[0]
            if now < margin * recorded:
                lines.append(
                    f"{result.group.name}: {name} is {now:.2f} times as fast as "
                    f"{result.group.cases[0].name}, recorded {recorded:.2f}, "
                    f"expected at least {margin * recorded:.2f}"
                )
    return lines
