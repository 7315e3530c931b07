"""Runs of a table of `modes` that was made before, to be added to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from vaerl.experiments.modes.scores import BASE
from vaerl.experiments.modes.table import COLUMNS, Numbers, Place, Rows, made_with
from vaerl.experiments.modes.tasks import POLICIES, TASKS
from vaerl.lab.record import check_same, plain, read_record


class Earlier(NamedTuple):
    """The contents of a record."""

    runs: dict[Place, Numbers]
    rows: Rows


def read_earlier(path: Path | None, preset: str, *, strict: bool) -> Earlier:
    """The runs and rows of a results.json; nothing without a path.

    Raises:
        ValueError: with `strict`, for a file that is not such a record, or has another preset,
            other versions or other settings; without it the result is then empty.
    """
    try:
        return Earlier({}, {}) if path is None else _read(Path(path), preset)
    except ValueError as error:
        if strict:
            raise ValueError(f"onto: {error}") from error
        return Earlier({}, {})


def _read(path: Path, preset: str) -> Earlier:
    record = read_record(path, ("made", "runs", "columns", "rows"))
    if record is None:
        raise ValueError(f"{path}: got no file, expected a results.json of `modes`")
    try:
        rows = {(row[0], row[1]): row for row in _whole_rows(record["columns"], record["rows"])}
        runs = {(r["task"], r["policy"], r["seed"]): _numbers(r) for r in record["runs"]}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: got runs or rows of another form ({error})") from error
    for task, policy, *_ in [*rows, *runs]:
        if task not in TASKS or policy not in POLICIES:
            raise ValueError(f"{path}: got a run of {policy!r} on {task!r}, which is unknown")
    here = made_with(dict.fromkeys(task for task, *_ in [*rows, *runs]), preset)
    check_same(path, record["made"], plain(here))
    return Earlier(runs, rows)


def _whole_rows(columns: list[str], rows: list[list[str]]) -> list[list[str]]:
    """Rows with a cell for each of `COLUMNS`."""
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    return [[row.get(name, "") for name, _ in COLUMNS] for row in named]


def _numbers(run: dict[str, Any]) -> Numbers:
    numbers = {k: run[k] for k in (*BASE, *run) if k not in ("task", "policy", "seed")}
    wrong = [key for key, value in numbers.items() if type(value) not in (int, float)]
    if wrong or type(run["seed"]) is not int:
        raise TypeError(f"{', '.join(wrong) or 'seed'}: not a number")
    return numbers
