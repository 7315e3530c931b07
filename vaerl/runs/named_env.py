"""The environment of a training for which none was given: that of its data or of its clone."""

from __future__ import annotations

from typing import Any

from vaerl.data import load_demonstrations
from vaerl.runs.directory import RunDirectory


def named_env(data: str = "", from_: str = "") -> str:
    """The Gymnasium id that the run `from_`, or else the demonstrations `data`, name.

    Raises:
        ValueError: they name none, or one whose module would have to be imported: only the user
            decides what is imported.
    """
    source = from_ or data
    name: Any = (
        RunDirectory.open(from_).config.get("env") if from_ else load_demonstrations(data).env
    )
    if not name:
        raise ValueError(f"--env: got none, and {source!r} names none; expected a Gymnasium id")
    if ":" in str(name):
        raise ValueError(
            f"--env: got none, and {source!r} names {name!r}, whose module is imported only with "
            f"--env {name}"
        )
    return str(name)
