"""Files that experiments keep between two calls: written whole, and checked when read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaerl.disk import files, jsonio
from vaerl.disk.reading import read_file
from vaerl.lab.console import print_table
from vaerl.runs.directory import versions

NAMED = 3  # differing settings that a message names
NUMBERS = re.compile(r"\[\n[-+.\deE,\s]+\]")
"""A list of numbers over several lines of JSON; a text there has no line break."""


def write_record(path: Path, record: Mapping[str, Any]) -> Path:
    """Write `record` as JSON, lists of numbers on one line, replacing the file at once."""
    files.make_directory(path.parent)
    text = jsonio.dumps(dict(record), indent=1)
    return files.write_text(path, NUMBERS.sub(_one_line, text) + "\n")


def _one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found[0][1:-1].split())}]"


def read_record(path: Path, keys: Sequence[str] = ()) -> dict[str, Any] | None:
    """Read a JSON object that holds all `keys`; None if there is no such file.

    Raises:
        ValueError: anything else; one line that names the file.
    """
    if not path.exists():
        return None
    try:
        record = jsonio.loads(read_file(path, jsonio.MAX_BYTES), str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it to make it again") from error
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing or not isinstance(record, dict):
        raise ValueError(
            f"{path}: got a file without {', '.join(map(repr, missing)) or 'an object'}, expected "
            "a record of this experiment; delete it to make it again"
        )
    return record


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` as it looks after a round trip through JSON."""
    return dict(jsonio.loads(jsonio.dumps(dict(data)).encode(), "settings"))


def check_same(
    path: Path, found: Any, wanted: Mapping[str, Any], free: Collection[str] = ()
) -> bool:
    """Whether the settings of a file are those wanted.

    Settings named in `free` may differ: the answer is then False.

    Raises:
        ValueError: other settings differ; one line that names them.

    >>> check_same(Path("out/linear.json"), {"seed": 0}, {"seed": 1})
    Traceback (most recent call last):
    ValueError: out/linear.json: made with other settings (seed: got 0, expected 1); choose \
another --out
    """
    have, want = dict(_flat(found)), dict(_flat(plain(wanted)))
    names = [name for name in {**want, **have} if have.get(name) != want.get(name)]
    wrong = [name for name in names if name.partition(".")[0] not in free]
    if not wrong:
        return not names
    parts = [f"{n}: got {have.get(n)!r}, expected {want.get(n)!r}" for n in wrong[:NAMED]]
    more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    raise ValueError(
        f"{path}: made with other settings ({'; '.join(parts)}{more}); choose another --out"
    )


def _flat(data: Any, start: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of nested objects by their dotted names."""
    if not isinstance(data, Mapping) or not data:
        yield start, data
        return
    for key, value in data.items():
        yield from _flat(value, f"{start}.{key}" if start else str(key))


def print_record(record: Mapping[str, Any], apart: bool = False) -> None:
    """Print table, caption and notes.

    Args:
        record: title, columns, rows, caption, and perhaps notes.
        apart: print the rows of each first cell as a table without its empty columns.
    """
    columns, rows = record["columns"], record["rows"]
    groups = {row[0]: [r for r in rows if r[0] == row[0]] for row in rows} if apart else {"": rows}
    for name, own in groups.items():
        shown = [i for i in range(len(columns)) if not apart or (i and any(row[i] for row in own))]
        print_table(
            f"{record['title']}: {name}" if apart else record["title"],
            [columns[i] for i in shown],
            [[row[i] for i in shown] for row in own],
        )
    for line in (record["caption"], *record.get("notes", ())):
        print(line)


def machine_versions() -> dict[str, Any]:
    """Versions of the packages that made a table, and the cores of the machine."""
    return {**versions(), "cores": os.cpu_count()}
