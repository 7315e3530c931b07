"""What experiments keep on disk between two calls, read back with care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaerl.disk import jsonio

NAMED = 3  # settings that a message names


def read_record(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """A JSON object that holds all `keys`; None where there is no such file.

    Raises ValueError, one line that names the file, for anything else.
    """
    if not path.exists():
        return None
    try:
        record = jsonio.loads(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it to make it again") from error
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise ValueError(
            f"{path}: got a file without {', '.join(map(repr, missing))}, expected a record of "
            "this experiment; delete it to make it again"
        )
    return record


def check_same(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    """ValueError, one line, where the settings of a finished record are not those asked for.

    >>> check_same(Path("out/linear.json"), {"seed": 0}, {"seed": 1})
    Traceback (most recent call last):
    ValueError: out: out/linear.json was made by other settings (seed 0 there, 1 asked for); \
expected the same, or another --out
    """
    plain = jsonio.loads(jsonio.dumps(dict(wanted)).encode(), "settings")
    if found == plain:
        return
    there = found if isinstance(found, Mapping) else {}
    both = ((key, there.get(key), plain.get(key)) for key in dict.fromkeys((*plain, *there)))
    others = [f"{key} {old} there, {new} asked for" for key, old, new in both if old != new]
    more = f", and {len(others) - NAMED} more" if len(others) > NAMED else ""
    raise ValueError(
        f"out: {path} was made by other settings ({', '.join(others[:NAMED])}{more}); "
        "expected the same, or another --out"
    )
