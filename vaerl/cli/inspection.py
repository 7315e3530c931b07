"""The command `vaerl inspect`: a run, or a function that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vaerl.cli.arguments import AllowModule, Debug, allow
from vaerl.disk import files
from vaerl.runs import RunDirectory


def inspect_run(
    subject: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, or module:function for f(observation, z) → action.",
            metavar="RUN|module:function",
        ),
    ],
    observations: Annotated[
        Path | None,
        typer.Option(help="npy file of observations, one row a state; npz with a key each."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Demonstrations (default: those of the run).")
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Environment of a function: states and a map.")
    ] = None,
    latent_size: Annotated[int, typer.Option(help="Numbers of z, for a function.", min=0)] = 1,
    prior: Annotated[
        str, typer.Option(help="Law of z, for a function: normal, or uniform over [−1, 1].")
    ] = "normal",
    states: Annotated[int, typer.Option(help="Most states to look at.", min=1)] = 6,
    draws: Annotated[int, typer.Option(help="Draws at each state.", min=64)] = 8192,
    kept: Annotated[int, typer.Option(help="Latents kept through roll-outs.", min=0)] = 8,
    episodes: Annotated[int, typer.Option(help="Roll-outs with each; 0 for none.", min=0)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of draws and roll-outs.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of inspect.json and inspect.html (default: RUN).")
    ] = None,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Is a policy multimodal, and what does each latent do? Ask a RUN, or any f(observation, z)."""
    allow(allow_module)
    is_run = ":" not in subject or Path(subject).exists()
    if is_run:
        RunDirectory.open(Path(subject))
    folder = files.check_folder("--out", out or (Path(subject) if is_run else Path("runs/inspect")))

    from vaerl.inspection import inspect_policy
    from vaerl.inspection.runs import inspect_run as look_at
    from vaerl.inspection.states import read_observations
    from vaerl.inspection.tables import tables
    from vaerl.lab.console import print_table
    from vaerl.report.inspection import inspection_page
    from vaerl.runs.drivers import import_function

    asked: dict[str, Any] = {
        "observations": None if observations is None else read_observations(observations),
        "states": states,
        "draws": draws,
        "kept": kept,
        "episodes": episodes,
        "seed": seed,
    }
    if is_run:
        _refuse_given("with a run", env=env)
        found = look_at(Path(subject), data, **asked)
    else:
        _refuse_given("with a function", data=data)
        allow([module] if env and (module := env.rpartition(":")[0]) else None)
        asked |= {"env": env or "", "latent_size": latent_size, "prior": prior}
        found = inspect_policy(import_function(subject), **asked)
    for table in tables(found):
        print_table(table.title, table.columns, table.rows)
        print(f"{table.caption}\n")
    print(found.write(folder / "inspect.json"))
    print(inspection_page(found, folder / "inspect.html"))


def _refuse_given(where: str, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"--{name}: got {value!r} {where}, expected none")
