"""The record of a benchmark: a table for people, the speeds for the next comparison.

A record may grow group by group, over several calls on the same machine in the same setting; what
an earlier call measured stays until its group is measured again.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError
from vaerl.lab.bench.groups import GROUPS
from vaerl.lab.bench.timing import Result, device_name
from vaerl.runs.directory import versions

COLUMNS = ["task", "rival", "ms", "unit", "speed", "goal", "reached"]


@dataclass(frozen=True)
class Block:
    """What a record holds of one group."""

    rows: list[list[Any]]
    speeds: dict[str, float]
    rounds: int
    command: str
    notes: list[str]


def setting(device: str = "cpu") -> dict[str, Any]:
    """What two results of one record have in common: threads, device, versions, machine."""
    return {
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "versions": {**versions(), "cores": os.cpu_count(), "machine": platform.machine()},
    }


def block(result: Result, command: str, rounds: int) -> Block:
    """Rows and speeds of one group."""
    title = result.group.title
    return Block(
        rows=[
            ["" if number else title, case.name, *_numbers(result, case.name)]
            for number, case in enumerate(result.group.cases)
        ],
        speeds={name: round(result.speed(name)[0], 3) for name in result.seconds},
        rounds=rounds,
        command=command,
        notes=[f"{name}: {why}" for name, why in result.group.missing.items()],
    )


def record(blocks: Mapping[str, Block], setting: Mapping[str, Any]) -> dict[str, Any]:
    """Groups as plain data, in the form of a record of results, in the order of `GROUPS`."""
    order = list(GROUPS)
    names = sorted(blocks, key=lambda name: order.index(name) if name in order else len(order))
    ordered = {name: blocks[name] for name in names}
    each = list(ordered.values())
    where = "" if setting["device"] == "cpu" else f", on {setting['device']}"
    return {
        "title": "Speed against what people use",
        "command": "\n".join(dict.fromkeys(b.command for b in each)),
        "caption": (
            "Median time of a unit, and speed against the first rival of its block: the median "
            f"over {_rounds([b.rounds for b in each])} of the ratio within a round, in which all "
            "rivals take turns (quartiles in brackets). "
            f"{count(setting['threads'], 'torch thread')}{where}."
        ),
        "columns": COLUMNS,
        "rows": [row for b in each for row in b.rows],
        "speeds": {name: b.speeds for name, b in ordered.items()},
        "measured": {
            name: {"rounds": b.rounds, "command": b.command, "notes": b.notes}
            for name, b in ordered.items()
        },
        "notes": list(dict.fromkeys(note for b in each for note in b.notes)),
        **setting,
    }


def read_blocks(path: Path, setting: Mapping[str, Any]) -> dict[str, Block]:
    """The groups of the record at `path`, none where there is no file.

    Raises ValueError, one line, for a file that `record` did not write or that was measured in
    another setting: results of the two do not belong into one table.
    """
    if not path.exists():
        return {}
    try:
        found = jsonio.loads(path.read_bytes(), path.name)
        blocks = _blocks(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = isinstance(error, OSError | VaerlLoadError)
        raise _refuse(path, str(error) if told else "it has another form") from None
    for key, now in setting.items():
        if found.get(key) != now:
            raise _refuse(path, f"{key} {_difference(found.get(key), now)}")
    return blocks


def count(number: int, what: str) -> str:
    """`number` of `what`, which ends in s if they are several.

    >>> count(1, "round"), count(12, "round")
    ('1 round', '12 rounds')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def _rounds(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return count(most, "round") if least == most else f"{least} to {most} rounds"


def _blocks(found: Any) -> dict[str, Block]:
    """The record taken apart: as many of its rows belong to a group as it has speeds."""
    rows = list(found["rows"])
    blocks = {}
    for name, own in found["measured"].items():
        speeds = dict(found["speeds"][name])
        mine, rows = rows[: len(speeds)], rows[len(speeds) :]
        if [row[1] for row in mine] != list(speeds) or any(len(r) != len(COLUMNS) for r in mine):
            raise TypeError(name)
        rounds, command, notes = int(own["rounds"]), str(own["command"]), list(own["notes"])
        blocks[name] = Block(mine, speeds, rounds, command, notes)
    if rows or set(blocks) != set(found["speeds"]):
        raise TypeError("rows or speeds of no group")
    return blocks


def _difference(then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(k for k in [*now, *then] if then.get(k) != now.get(k))
        return f"of {key}: {then.get(key)} then, {now.get(key)} now"
    return f"{then} then, {now} now"


def _refuse(path: Path, problem: str) -> ValueError:
    return ValueError(
        f"--out: got {path}, expected no bench.json there or one that can be added to ({problem}); "
        "move it away or name another folder"
    )


def _numbers(result: Result, case: str) -> list[Any]:
    middle, low, high = result.speed(case)
    goals = [goal for goal in result.group.goals if goal.case == case]
    base = result.group.cases[0].name
    return [
        float(f"{result.milliseconds(case):.4g}"),
        result.group.unit,
        "1" if case == base else f"{middle:.2f} ({low:.2f}–{high:.2f})",
        "; ".join(goal.words(base) for goal in goals),
        "; ".join(goal.verdict(result) for goal in goals),
    ]
