"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vaerl.envs.making import import_environments

Run = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/first.", metavar="RUN")]
Episodes = Annotated[int | None, typer.Option(help="Episodes (default: by environment).", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of the environment and of the policy.", min=0)]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic/--stochastic", help="Take the best action, or draw one."),
]
AllowModule = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-module",
        help="Import this module: it registers the environment of a run.",
        metavar="MODULE",
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        help="Where the work runs (`vaerl list executors`; default: processes).",
        rich_help_panel="Machines",
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        help="Ray cluster: HOST:PORT of its head, auto on one of its machines, or "
        "http://HOST:8265 to submit the command as a job.",
        rich_help_panel="Machines",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")]

TRAIN_PANELS = {
    "env": "What to train",
    "eval_every": "Evaluation, pictures, video",
    "out": "Folder, checkpoints, trackers",
}
"""Headings of the options of a training, by the first option below each."""


def allow(modules: Sequence[str] | None) -> None:
    """Import the modules that the user allows."""
    for module in modules or ():
        import_environments(module)


def env_of(data: str, from_: str) -> str:
    """The environment of a training without `--env`; quick where there is nothing to look at."""
    if not (data or from_):
        raise ValueError("--env: got none, expected a Gymnasium id, such as Pendulum-v1")
    from vaerl.runs.named_env import named_env

    return named_env(data, from_)


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
