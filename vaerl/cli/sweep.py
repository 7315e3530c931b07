"""The command `vaerl sweep`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vaerl.agents import AGENTS
from vaerl.cli.arguments import TRAIN_PANELS, Executor, RayAddress, env_of, is_typed
from vaerl.cli.options import of_dataclass, parse_value
from vaerl.disk import files
from vaerl.runs.config import TrainConfig, check_typed_env

PANEL = "The sweep"
SEARCH = "Search"
TRIALS = 20
LEFT_OUT = ("agent", "seed", "out")
SWEEP_OPTIONS = [o for o in of_dataclass(TrainConfig, TRAIN_PANELS) if o.name not in LEFT_OUT]
"""The options of a training that all trials may share."""


def sweep(
    fields: dict[str, Any],
    *,
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(help="An agent, or a file SPEC.toml.", metavar="AGENT|SPEC.toml")
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of an option, such as density=cvae,gaussian or "
            "agent_options.gamma=0.9,0.99; several grids give all combinations.",
            metavar="NAME=VALUE,…",
            rich_help_panel=PANEL,
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Such as 0-9 or 0,3,5 (default: 0).", rich_help_panel=PANEL)
    ] = "",
    search: Annotated[
        str,
        typer.Option(
            help="Look for settings by Optuna: tpe, gp, qmc or random.", rich_help_panel=SEARCH
        ),
    ] = "",
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to look, such as agent_options.gamma=0.9..0.999, "
            "agent_options.learning_rate=1e-5..1e-2:log or density=cvae,flow.",
            metavar="NAME=LOW..HIGH",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials (default: 20).", min=1, rich_help_panel=SEARCH)
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="Score of the final evaluation (default: return_mean).", rich_help_panel=SEARCH
        ),
    ] = "",
    minimise: Annotated[
        bool, typer.Option("--minimise", help="Less is better.", rich_help_panel=SEARCH)
    ] = False,
    pruner: Annotated[
        str,
        typer.Option(
            help="What ends bad trials early: none (default), median, halving or hyperband.",
            rich_help_panel=SEARCH,
        ),
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Trials at once (default: the cores of this machine).",
            min=1,
            rich_help_panel=PANEL,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs, the table and the report (default: runs/sweep-AGENT-ENV).",
            rich_help_panel=PANEL,
        ),
    ] = None,
    executor: Executor = "",
    ray_address: RayAddress = "",
    debug: Annotated[
        bool, typer.Option("--debug", help="Train tiny runs; show tracebacks of errors.")
    ] = False,
) -> None:
    """Train AGENT with every combination of a grid, or search a space; or do what SPEC.toml says.

    Every trial is a run of `vaerl train`. The same command again finishes what is missing.
    """
    spec = _read(what)
    grids = {**spec.pop("grid"), **dict(map(parse_grid, grid or ()))}
    looked = {
        **spec.pop("search"),
        **_given(sampler=search, metric=metric, minimise=minimise, pruner=pruner, trials=trials),
    }
    if spaces := {**looked.get("space", {}), **dict(map(parse_space, space or ()))}:
        looked["space"] = spaces
    chosen: Any = seeds or spec.pop("seeds", 0)
    spec.pop("seeds", None)
    train = _combine(spec, {name: fields[name] for name in fields if is_typed(context, name)})
    free = {**grids, **looked.get("space", {})}
    if "env" not in free:
        train["env"] = train.get("env") or env_of(train.get("data", ""), train.get("from_", ""))
    for name in free.get("agent", [train.get("agent", TrainConfig.agent)]):
        AGENTS.check(name)  # before torch is loaded: the answer is quick
    for name in map(str, free.get("env", [train.get("env")])):
        check_typed_env(name)
    folder = files.check_folder("--out", out or _default_folder(what, train))

    from vaerl.lab.executors import executing
    from vaerl.lab.ray_jobs import is_job_server, send
    from vaerl.sweep.run import run_search, run_sweep
    from vaerl.sweep.search import make_search
    from vaerl.sweep.spec import Sweep, parse_seeds

    if is_job_server(ray_address):
        return send(ray_address, sys.argv[1:])
    whole = Sweep(train, grids, parse_seeds(chosen))
    how: dict[str, Any] = {
        "command": shlex.join(["vaerl", *sys.argv[1:]]),
        "jobs": jobs or os.cpu_count() or 1,
        "debug": debug,
    }
    with executing(executor, ray_address, folder):
        if looked:
            count = looked.pop("trials", TRIALS)
            run_search(whole, make_search(looked), folder, trials=count, **how)
        else:
            run_sweep(whole, folder, **how)
    print(f"finished: {folder}")


def _read(what: str) -> dict[str, Any]:
    """The tables of the file, or the agent that was named instead."""
    from vaerl.sweep.spec import dotted, read_spec

    spec: dict[str, Any] = read_spec(Path(what)) if what.endswith(".toml") else {"agent": what}
    search = dict(spec.get("search", {}))
    if "space" in search:
        search["space"] = dotted(search["space"])
    return {**spec, "grid": dotted(spec.get("grid", {})), "search": search}


def _given(**values: Any) -> dict[str, Any]:
    """The options that have a value."""
    return {name: value for name, value in values.items() if value}


def _combine(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Fields of the file, and those of the command line, which count more, option by option."""
    both = {
        name: {**spec[name], **given[name]}
        for name in spec.keys() & given.keys()
        if isinstance(spec[name], dict)
    }
    return {**spec, **given, **both}


def _default_folder(what: str, train: dict[str, Any]) -> Path:
    env = train.get("env", "").rpartition("/")[2].rpartition(":")[2]
    name = Path(what).stem if what.endswith(".toml") else "-".join(filter(None, (what, env)))
    return Path("runs", f"sweep-{name}")


def parse_grid(text: str, option: str = "--grid") -> tuple[str, list[Any]]:
    """Read NAME=VALUE,…; the commas inside of brackets and quotes belong to a value.

    >>> parse_grid('agent_options.policy_kwargs={"net_arch":[64,64]},{"net_arch":[256]}')
    ('agent_options.policy_kwargs', [{'net_arch': [64, 64]}, {'net_arch': [256]}])
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(
            f"{option}: got {text!r}, expected NAME=VALUE,…, such as density=cvae,flow"
        )
    try:
        return name.replace("-", "_"), [parse_value(value) for value in split(values)]
    except ValueError as error:
        raise ValueError(f"{option} {name}: {error}") from None


def split(text: str) -> Sequence[str]:
    """The parts between the commas that stand outside of brackets and quotes.

    >>> split("[4,2],[8]"), split("cvae,gaussian")
    (['[4,2]', '[8]'], ['cvae', 'gaussian'])
    """
    parts, depth, quoted = [""], 0, False
    for sign in text:
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign in "[{(") - (sign in ")}]")
        if sign == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def parse_space(text: str) -> tuple[str, Any]:
    """Read NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE,….

    >>> parse_space("agent_options.learning_rate=1e-5..1e-2:log")
    ('agent_options.learning_rate', {'low': 1e-05, 'high': 0.01, 'log': True})
    >>> parse_space("density=cvae,flow")
    ('density', ['cvae', 'flow'])
    """
    name, equals, values = text.partition("=")
    low, dots, high = values.partition("..")
    if not equals or not dots:
        return parse_grid(text, "--space")
    high, colon, scale = high.partition(":")
    try:
        ends = {"low": parse_value(low), "high": parse_value(high)}
    except ValueError as error:
        raise ValueError(f"--space {name}: {error}") from None
    if colon and scale != "log":
        raise ValueError(f"--space {name}: got {scale!r} after the range, expected log")
    return name.replace("-", "_"), {**ends, **({"log": True} if colon else {})}
