"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from vaerl.envs.making import import_environments

AllowModule = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-module",
        help="Import this module: it registers the environment of a run.",
        metavar="MODULE",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")]


def allow(modules: Sequence[str] | None) -> None:
    """Import the modules that the user allows."""
    for module in modules or ():
        import_environments(module)
