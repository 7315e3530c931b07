"""A table of `modes` that was made before, read back so that runs can be added to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vaerl.disk import jsonio
from vaerl.experiments.modes.scores import BASE
from vaerl.experiments.modes.table import COLUMNS, Numbers, Place, in_order, made_with
from vaerl.experiments.modes.tasks import POLICIES, TASKS


class Earlier(NamedTuple):
    """What a record holds."""

    runs: dict[Place, Numbers]
    rows: dict[tuple[str, str], list[str]]
    """Rows, by (task, policy), whose runs it does not hold."""

    def with_runs(self, runs: Mapping[Place, Numbers]) -> Earlier:
        """More runs in the order of the table, in place of equal ones and of rows of no more."""
        joined = {**self.runs, **runs}
        have = [(task, policy) for task, policy, _ in joined]
        rows = {p: row for p, row in self.rows.items() if have.count(p) < _seeds(row)}
        kept = [place for place in joined if place[:2] not in rows]
        return Earlier({place: joined[place] for place in sorted(kept, key=in_order)}, rows)

    def places(self) -> list[Place]:
        """All runs that the table is about."""
        of_rows = [
            (*place, seed) for place, row in self.rows.items() for seed in range(_seeds(row))
        ]
        return sorted([*self.runs, *of_rows], key=in_order)


NOTHING = Earlier({}, {})


def read_earlier(path: Path, preset: str = "full") -> Earlier:
    """The runs and rows of a results.json of `modes`.

    Raises ValueError, one line that names the file, where it is no such record, or one of another
    preset, of other versions, or of settings that a task no longer has.
    """
    if not path.is_file():
        raise ValueError(f"onto: {path} is no file, expected a results.json of `modes`")
    try:
        record = jsonio.loads(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"onto: {path} cannot be read ({error})") from error
    for key in ("made", "runs", "columns", "rows"):
        if not isinstance(record, dict) or key not in record:
            raise ValueError(f"onto: {path} has no {key!r}, expected a results.json of `modes`")
    _check_made(path, record["made"], preset)
    settled = record["made"]["settings"]
    runs: dict[Place, Numbers] = {}
    for run in _list(record["runs"]):
        place, numbers = _split(run)
        if place is None or place[0] not in settled:
            raise ValueError(f"onto: {path} holds {run!r:.120}, no run of this experiment")
        if place in runs:
            raise ValueError(f"onto: {path} holds the run {place!r} twice")
        runs[place] = numbers
    rows: dict[tuple[str, str], list[str]] = {}
    for row in _list(record["rows"]):
        cells = _cells(record["columns"], row)
        if cells is None or cells[0] not in settled:
            raise ValueError(f"onto: {path} holds {row!r:.120}, no row of this experiment's table")
        rows[cells[0], cells[1]] = cells
    return Earlier({}, rows).with_runs(runs)


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _seeds(row: list[str]) -> int:
    return int(row[2])


def _check_made(path: Path, made: Any, preset: str) -> None:
    """ValueError where a record was not made as its table would be made here and now."""
    parts = ("versions", "settings", "policies")
    if not isinstance(made, dict) or not all(isinstance(made.get(part), dict) for part in parts):
        raise ValueError(f"onto: {path} does not say with which settings it was made")
    here = made_with(made["settings"], preset)
    pairs = [("preset", made.get("preset"), preset)]
    for name in {**made["versions"], **here["versions"]}:
        pairs.append((name, made["versions"].get(name), here["versions"].get(name)))
    for what, there, wanted in pairs:
        if there != wanted:
            raise ValueError(f"onto: {path} was made with {what} {there!r:.60}, not {wanted!r}")
    for part in ("settings", "policies"):
        for name, there in made[part].items():
            if there != here[part].get(name):
                raise ValueError(
                    f"onto: {path} was made with other settings of {name!r:.60} than today's"
                )


def _split(run: Any) -> tuple[Place | None, Numbers]:
    """Task, policy and seed of a recorded run, None where it is not one, and its numbers."""
    if not isinstance(run, dict):
        return None, {}
    numbers = {key: value for key, value in run.items() if key not in ("task", "policy", "seed")}
    task, policy, seed = str(run.get("task")), str(run.get("policy")), run.get("seed")
    if (
        task not in TASKS
        or policy not in POLICIES
        or type(seed) is not int
        or not 0 <= seed < 10**9
    ):
        return None, {}
    legal = all(type(numbers.get(key)) in (int, float) for key in {*BASE, *numbers})
    return (task, policy, seed) if legal else None, numbers


def _cells(columns: Any, row: Any) -> list[str] | None:
    """A row's cells under all of `COLUMNS`, None where it is none."""
    if not isinstance(columns, list) or not isinstance(row, list) or len(row) != len(columns):
        return None
    named = {str(name): str(cell) for name, cell in zip(columns, row, strict=True)}
    cells = [named.get(name, "") for name, _ in COLUMNS]
    task, policy, seeds, *_ = cells
    legal = task in TASKS and policy in POLICIES and seeds.isdecimal() and len(seeds) < 5
    return cells if legal else None
