"""The command `vaerl export`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vaerl.cli.arguments import AllowModule, Debug, Run, allow
from vaerl.cli.options import command_line, of_dataclass
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig

MODULES = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx"}
"""What an export imports, with the extras that bring it."""


def export(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Folder (default: RUN/export).")] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Also upload it to a model hub (extra hub).", metavar="OWNER/NAME"),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="With --push: a repository that is made is private.")
    ] = False,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Export the policy of RUN: ONNX, checked, with a loader that needs no torch, and a card."""
    allow(allow_module)
    opened = RunDirectory.open(run)
    if private and push is None:
        raise ValueError("--private: got it without --push OWNER/NAME")
    for name, extra in {**MODULES, **({"huggingface_hub": "hub"} if push else {})}.items():
        if find_spec(name) is None:
            raise ImportError(
                f"vaerl export needs {name}: install it with  pip install 'vaerl[{extra}]'"
            )
    from vaerl.export.folder import export_run
    from vaerl.export.hub import check_repository
    from vaerl.export.hub import push as upload

    if push is not None:
        check_repository(push)
    folder = out or run / "export"
    found = export_run(run, folder, _command)
    print(
        f"{found.observations:,} observations: at most {found.drawn:.1e} apart from the policy "
        f"(drawn), {found.deterministic:.1e} (deterministic), {found.jumps} jumps"
    )
    if (state := opened.status()["state"]) != "finished":
        print(f"the run has not finished (it is {state}): this is its last checkpoint")
    print(folder)
    if push is not None:
        print(upload(folder, push, private))


def _command(config: TrainConfig) -> str:
    """The command line that trains such a run."""
    named = {
        name: getattr(config, name)
        for name in ("env", "agent", "density", "steps", "seed", "data", "from_")
        if getattr(config, name) != ""
    }
    plain = TrainConfig(**named).resolved()
    same = {"out", "wandb_project", "wandb_group", "wandb_tags", "wandb_mode", "data", "from_"}
    given = [
        (option, getattr(config, option.name))
        for option in of_dataclass(TrainConfig, {})
        if option.name in named
        or (option.name not in same and getattr(config, option.name) != getattr(plain, option.name))
    ]
    return command_line("vaerl train", given, positional="agent")
