"""The rows of metrics.jsonl: faulty ones are left out, and of very many only some are read.

A log may hold millions of rows, and after a fault of the disk anything. A report needs neither all
of the rows nor each of them.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError, one_line

LIMIT = 2**28  # bytes of a log
MOST_BYTES = 2**20  # of a row
MOST_ROWS = 5000  # of one kind; with twice as many, every second is left out
MOST_KINDS = 200
MOST_STEPS = 2**53
LARGEST = 1e100  # of a value; what lies beyond is infinite to a figure
DIGITS = b"0123456789.+-e"  # without them, rows with the same keys are the same bytes
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Rows(NamedTuple):
    """What `read_rows` found."""

    rows: list[dict[str, Any]]
    """Each with `global_step`, in the order of the log."""
    problem: str
    """One line about the rows that were left out as faulty; empty without any."""


def read_rows(data: bytes, where: str) -> Rows:
    """Read a log; an incomplete last line is left out.

    Of each kind of row (the same keys) the last and at most `2 * MOST_ROWS` others are kept, at
    equal distances.

    >>> read_rows(b'{"global_step": 1, "loss": "nan"}\\n{"gl', "log").rows
    [{'global_step': 1, 'loss': nan}]
    """
    kept: dict[bytes, _Kind] = {}
    for number, line in _lines(data):
        key = line[:MOST_BYTES].translate(None, DIGITS)
        if key not in kept and len(kept) >= MOST_KINDS:
            key = b""
        kept.setdefault(key, _Kind()).add(number, line)
    rows, faults = [], []
    for number, line in sorted(line for kind in kept.values() for line in kind.lines()):
        try:
            rows.append(parse_row(line, f"{where}:{number}"))
        except VaerlLoadError as error:
            faults.append(error)
    problem = f"left out {len(faults)} rows: {faults[0]}" if faults else ""
    return Rows(rows, one_line(problem))


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """One row; VaerlLoadError, which begins with `where`, for anything else."""
    if len(line) > MOST_BYTES:
        raise VaerlLoadError(f"{where}: got {len(line):,} bytes, expected at most {MOST_BYTES:,}")
    try:
        row = jsonio.decode(line, _DECODER)
    except (ValueError, RecursionError) as error:
        raise VaerlLoadError(f"{where}: not JSON: {error}") from None
    check_steps(row, "global_step", where)
    return {key: _number(value) for key, value in row.items()}


def rows_until(data: bytes, step: int, where: str) -> bytes:
    """The lines of a log up to a step, as they are; faulty ones are left out."""
    found = []
    for number, line in _lines(data):
        try:
            row = parse_row(line, f"{where}:{number}")
        except VaerlLoadError:
            continue
        if row["global_step"] <= step:
            found.append(line)
    return b"".join(line + b"\n" for line in found)


def check_steps(data: Any, key: str, where: str) -> None:
    """Raise VaerlLoadError unless `data` is an object with a number of steps under `key`."""
    steps = data.get(key) if isinstance(data, dict) else None
    if type(steps) is not int or not 0 <= steps <= MOST_STEPS:
        shown = one_line(repr(data if steps is None else steps), 60)
        raise VaerlLoadError(f"{where}:{key}: got {shown}, expected a whole number, 0 or more")


class _Kind:
    """Rows with the same keys."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, bytes]] = []
        self._every, self._count = 1, 0
        self._last = (0, b"")

    def add(self, number: int, line: bytes) -> None:
        self._last = number, line
        if self._count % self._every == 0:
            self._kept.append(self._last)
            if len(self._kept) > 2 * MOST_ROWS:
                del self._kept[1::2]
                self._every *= 2
        self._count += 1

    def lines(self) -> set[tuple[int, bytes]]:
        return {*self._kept, self._last}


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(io.BytesIO(data), start=1):
        if line.endswith(b"\n"):
            yield number, line[:-1]


def _number(value: Any) -> Any:
    """A value as figures take it: text for what is not finite, huge numbers are infinite."""
    if isinstance(value, str):
        return NOT_FINITE.get(value, value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > LARGEST:
        return math.inf if value > 0 else -math.inf
    return value


_DECODER = json.JSONDecoder(parse_constant=jsonio.refuse_constant)
