"""The command `vaerl`: train, sweep, collect, eval, video, inspect, export, report and others.

Heavy modules are imported inside the commands, so that help is quick.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import gymnasium
import typer

from vaerl import __version__
from vaerl.agents import AGENTS
from vaerl.cli.arguments import (
    TRAIN_PANELS,
    AllowModule,
    Debug,
    Deterministic,
    Episodes,
    Executor,
    RayAddress,
    Run,
    Seed,
    allow,
    env_of,
    is_typed,
)
from vaerl.cli.errors import OneLineGroup
from vaerl.cli.export import export
from vaerl.cli.film import video
from vaerl.cli.inspection import inspect_run
from vaerl.cli.options import of_dataclass, of_function, with_options
from vaerl.cli.sweep import SWEEP_OPTIONS, sweep
from vaerl.disk import files, jsonio
from vaerl.disk.errors import only_looks
from vaerl.envs import ENVIRONMENTS
from vaerl.envs.making import import_environments
from vaerl.experiments import EXPERIMENTS
from vaerl.names import check_name
from vaerl.runs import RunDirectory
from vaerl.runs.collect import CollectConfig
from vaerl.runs.config import TrainConfig, check_typed_env

STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": "markdown",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(cls=OneLineGroup, **STYLE)

REGISTRIES = {
    "agents": "vaerl.agents:AGENTS",
    "densities": "vaerl.densities:DENSITIES",
    "executors": "vaerl.lab.executors:EXECUTORS",
    "experiments": "vaerl.experiments:EXPERIMENTS",
    "native": "vaerl.native.library",
    "planners": "vaerl.planning:PLANNERS",
    "trackers": "vaerl.track:TRACKERS",
}
KINDS = ("envs", *REGISTRIES)


def main() -> None:
    """Run the command line of this process."""
    app()


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """Conditional VAEs and other densities as policies and models for Stable-Baselines3."""
    if version:
        print(f"vaerl {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def _switch(name: str, text: str) -> Any:
    return typer.Option(name, help=text, rich_help_panel=TRAIN_PANELS["out"])


@app.command()
@with_options(of_dataclass(TrainConfig, TRAIN_PANELS), positional="agent")
def train(
    fields: dict[str, Any],
    *,
    context: typer.Context,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="Start from the settings that ship for the environment (agents/tuned.toml), and "
            "from their first density unless --density is given.",
            rich_help_panel=TRAIN_PANELS["env"],
        ),
    ] = False,
    recipe: Annotated[
        str,
        typer.Option(
            help="Which of them: sac, crossq, simba or ppo; default: the agent's first.",
            rich_help_panel=TRAIN_PANELS["env"],
        ),
    ] = "",
    overwrite: Annotated[bool, _switch("--overwrite", "Replace the run in the folder.")] = False,
    resume: Annotated[
        bool, _switch("--resume", "Continue from the last checkpoint in the folder.")
    ] = False,
    progress: Annotated[bool, _switch("--progress/--no-progress", "Show a progress bar.")] = True,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Train a tiny run, in seconds; show tracebacks of errors."),
    ] = False,
) -> None:
    """Train AGENT with a policy of the given density. The run is written to a folder."""
    AGENTS.check(fields["agent"])  # before torch is loaded: the answer is quick
    fields["env"] = fields["env"] or env_of(fields["data"], fields["from_"])
    check_typed_env(fields["env"])

    from vaerl.lab.console import training_bar
    from vaerl.report.pictures import Painter
    from vaerl.runs.train import train as run_training

    if tuned or recipe:
        density = fields["density"] if is_typed(context, "density") else ""
        fields |= _tuned(fields, density, recipe, debug)
    config = TrainConfig(**fields)
    config = config.debug() if debug else config
    title = f"{config.agent} {config.density} {config.env}"
    with training_bar({title: config.steps}, shown=progress) as advance:
        run = run_training(
            config,
            overwrite=overwrite,
            resume=resume,
            on_step=lambda step: advance(title, step),
            painter=Painter,
        )
    status = run.status()
    with only_looks("table"):
        if (evaluation := run.evaluation()) is not None:
            print_evaluation(run.name, evaluation)
    print(f"{status['state']} after {status['steps']} steps: {config.out}")
    if status["state"] == "stopped":
        print("to continue: the same command with --resume")
        raise typer.Exit(130)


def _tuned(fields: Mapping[str, Any], density: str, recipe: str, debug: bool) -> dict[str, Any]:
    """Fields from the settings that ship; options of a debug run count more, given ones most."""
    from vaerl.agents.tuned import tuned

    found = tuned(fields["env"], fields["agent"], density, recipe)
    density = density or found.densities[0]
    print(f"tuned: {density}, {found.origin}", file=sys.stderr)
    own, given = found.options, fields.get("agent_options", {})
    tiny = AGENTS.load(fields["agent"]).debug_options if debug else {}
    options = {**own, **tiny, **given}
    if "policy_kwargs" in own and "policy_kwargs" in given:
        options["policy_kwargs"] = {**own["policy_kwargs"], **given["policy_kwargs"]}
    return {"density": density, "agent_options": options}


def print_evaluation(name: str, evaluation: Mapping[str, Any]) -> None:
    """Print the scores of a final evaluation."""
    from vaerl.lab.console import print_table

    kinds = [kind for kind in ("stochastic", "deterministic") if kind in evaluation]
    keys = [key for key, value in evaluation[kinds[0]].items() if isinstance(value, float)]
    rows = [[key, *(evaluation[kind].get(key) for kind in kinds)] for key in keys]
    print_table(f"{name}: final evaluation", ["", *kinds], rows)


@app.command("eval")
def evaluate(
    run: Run,
    episodes: Episodes = None,
    seed: Seed = 1,
    deterministic: Deterministic = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the scores.")] = None,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Evaluate the last checkpoint of RUN."""
    allow(allow_module)
    RunDirectory.open(run)  # before torch is loaded: a mistake is answered at once

    from vaerl.lab.console import print_table
    from vaerl.runs.evaluate import episodes_wanted
    from vaerl.runs.evaluate import evaluate as roll_out
    from vaerl.runs.train import load_run

    if out is not None:
        files.check_file("--out", out)
    agent, config, step = load_run(run)
    result = roll_out(
        agent,
        config.env,
        episodes=episodes if episodes is not None else episodes_wanted(config.env),
        seed=seed,
        deterministic=deterministic,
        env_options=config.env_options,
    )
    how = "deterministic" if deterministic else "stochastic"
    title = f"{run.name}, step {step}: {len(result.returns)} {how} episodes, seed {seed}"
    print_table(title, ["", how], [[key, value] for key, value in result.scores().items()])
    if result.note:
        print(result.note, file=sys.stderr)
    if out is not None:
        data = {"run": run.name, "step": step, **result.to_dict(episodes=True)}
        files.make_directory(out.parent)
        files.write_text(out, jsonio.dumps(data, indent=1) + "\n")
        print(out)


COLLECT_PANELS = {
    "env": "Who drives (one of these)",
    "episodes": "What is recorded",
    "out": "Where to",
}


@app.command("collect")
@with_options(of_dataclass(CollectConfig, COLLECT_PANELS), positional="env")
def collect_demonstrations(
    fields: dict[str, Any],
    *,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Record demonstrations in ENV. The same command continues a recording that was cut."""
    allow(allow_module)
    if module := fields.get("env", "").rpartition(":")[0]:
        import_environments(module)
    config = CollectConfig(**fields)  # before torch is loaded: a mistake is answered at once

    from vaerl.lab.console import training_bar
    from vaerl.runs.drivers import record

    title = f"{config.driver} {config.env}"
    with training_bar({title: config.episodes or 1}, shown=progress) as advance:
        found = record(
            config,
            command=shlex.join(["vaerl", *sys.argv[1:]]),
            on_episode=lambda count: advance(title, count),
        )
    places = " and ".join(filter(None, (config.out, config.to)))
    print(f"{len(found)} episodes, {found.steps} steps: {places}")


app.command("sweep")(with_options(SWEEP_OPTIONS)(sweep))
app.command("video")(video)
app.command("inspect")(inspect_run)
app.command("export")(export)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="RUNS")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file (default: report.html in the run, or beside the runs)."),
    ] = None,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Write one self-contained HTML page about one or more RUNS."""
    allow(allow_module)
    for path in runs:
        RunDirectory.open(path)

    from vaerl.report import report as write_report

    default = runs[0] if len(runs) == 1 else runs[0].resolve().parent
    print(write_report(runs, out or default / "report.html"))


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", metavar="KIND")],
    every: Annotated[
        bool, typer.Option("--all", help="With envs: every Gymnasium id, suitable or not.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List the names of one KIND, each with a description."""
    check_name("list", kind, KINDS)
    rows = environments(every) if kind == "envs" else resolve_name(REGISTRIES[kind]).lines()
    width = max(len(name) for name, _ in rows)
    for name, line in rows:
        print(f"{name:<{width}}  {line}".rstrip())


def environments(every: bool) -> list[tuple[str, str]]:
    """The environments of vaerl and of other packages, and those of Gymnasium with boxed actions.

    `every`: all that Gymnasium knows.
    """
    others = [name for name in gymnasium.registry if name not in ENVIRONMENTS]
    if every:
        return [*ENVIRONMENTS.items(), *((name, "") for name in others)]
    rows = []
    for name in others:
        home = str(gymnasium.registry[name].entry_point).partition(":")[0]
        if "mujoco" in home and name.endswith("-v5"):
            rows.append((name, "Gymnasium, MuJoCo"))
        elif name in ("Pendulum-v1", "MountainCarContinuous-v0"):
            rows.append((name, "Gymnasium, classic control"))
        elif not home.startswith(("gymnasium.", "<function")) and "/" in name:
            rows.append((name, home.partition(".")[0]))
    return [*ENVIRONMENTS.items(), *rows]


LOOSE = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=LOOSE)
def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name (vaerl list experiments).")] = "",
) -> None:
    """Run the experiment NAME (--preset debug: in seconds). NAME --help lists its options."""
    if name in ("", "-h", "--help"):
        print(f"Usage: vaerl experiment NAME [OPTIONS]\n\n{context.command.help}\n")
        print(f"NAME is one of {', '.join(EXPERIMENTS.names())}")
        return
    function = EXPERIMENTS.load(name)

    def run(
        values: dict[str, Any], *, executor: Executor = "", ray_address: RayAddress = ""
    ) -> None:
        from vaerl.lab.executors import executing
        from vaerl.lab.ray_jobs import is_job_server, send

        if is_job_server(ray_address):
            return send(ray_address, ["experiment", name, *context.args])
        values["out"] = files.check_folder("--out", values["out"])
        with executing(executor, ray_address, values["out"]):
            print(function(**values))

    run_function(context, f"experiment {name}", function, run, out=Path("runs") / name)


@app.command(context_settings=LOOSE)
def bench(context: typer.Context) -> None:
    """Measure the speed of vaerl, Stable-Baselines3 and SBX side by side."""
    from vaerl.lab.bench.run import bench as run_benchmark

    def run(values: dict[str, Any]) -> None:
        slower = run_benchmark(**values)
        for line in slower:
            print(line)
        if slower:
            raise typer.Exit(1)

    run_function(context, "bench", run_benchmark, run)


def run_function(
    context: typer.Context,
    name: str,
    function: Callable[..., Any],
    run: Callable[..., None],
    **defaults: Any,
) -> None:
    """Call `run` with the options of the command line; they are the arguments of `function`."""
    run.__doc__ = (inspect.getdoc(function) or "").partition("\nArgs:\n")[0]
    command = typer.Typer(**STYLE)
    command.command()(with_options(of_function(function, **defaults))(run))
    arguments = [argument for argument in context.args if argument != "--debug"]
    code = typer.main.get_command(command).main(arguments, f"vaerl {name}", standalone_mode=False)
    if code:
        raise typer.Exit(code)
