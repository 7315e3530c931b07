"""Changes to the folder of a run: the tools of the poisoned cases."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Case = Callable[[Path], Any]
CONFIG, STATUS, EVALUATION = "config.json", "status.json", "evaluation.json"
METRICS, PICTURE = "metrics.jsonl", "figures/density-000000001.png"
HUGE = 8 * 2**30


def value(name: str, *keys: str, to: Any) -> Case:
    """Put a value at a place in a JSON file of the run."""

    def change(run: Path) -> None:
        inner = data = json.loads((run / name).read_text())
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = to
        (run / name).write_text(json.dumps(data))

    return change


def without(name: str, key: str) -> Case:
    """Take a key out of a JSON file of the run."""

    def change(run: Path) -> None:
        data = json.loads((run / name).read_text())
        del data[key]
        (run / name).write_text(json.dumps(data))

    return change


def content(name: str, data: bytes | str) -> Case:
    """Replace what a file holds."""
    raw = data.encode() if isinstance(data, str) else data
    return lambda run: (run / name).write_bytes(raw)


def instead(name: str, make: Callable[[Path], Any]) -> Case:
    """Put something else where a file or folder is."""

    def change(run: Path) -> None:
        place = run / name
        if place.exists():
            os.rename(place, run.parent / "away")
        place.parent.mkdir(exist_ok=True)
        make(place)

    return change


def linked(target: Path) -> Any:
    """A link to where the file was moved."""
    return os.symlink(target.parent.parent / "away", target)


def outside(target: Path) -> None:
    """A link to the same, kept outside of the run."""
    run = next(folder for folder in target.parents if (folder / "runs").exists() or True)
    os.symlink(run.parent / "away", target)


def sparse(place: Path) -> None:
    """A file of eight gibibytes that takes no room."""
    place.touch()
    os.truncate(place, HUGE)
