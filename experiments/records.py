"""What experiments keep on disk between two calls, read back with care."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaerl.runs import jsonio


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
