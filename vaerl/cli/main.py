"""One command, `vaerl`: train, eval, video, report, list, experiment, bench.

Everything heavy is imported inside the commands, so that help answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaerl.cli.errors import OneLineGroup, parse_pairs
from vaerl.names import check_name

if TYPE_CHECKING:
    from vaerl.runs.config import TrainConfig

app = typer.Typer(
    cls=OneLineGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

KINDS = ("agents", "densities", "envs", "experiments", "planners", "trackers")
Run = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/first.", metavar="RUN")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of a fault; a mistake stays one line.")
]


def main() -> None:
    """Run the command line of this process."""
    app()


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """Conditional densities, conditional VAEs first, as policies for Stable-Baselines3."""
    if version:
        from vaerl import __version__

        print(f"vaerl {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


TASK, LOOK, OUTPUT = "What is trained", "Looking at it", "Folder, trackers, display"


def _option(help_text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


@app.command()
def train(
    agent: Annotated[
        str, typer.Argument(help="Algorithm: sac, ppo, mbpo or mpc.", metavar="AGENT")
    ],
    env: Annotated[str, _option("Gymnasium id, such as HalfCheetah-v5.", TASK)],
    density: Annotated[str, _option("cvae, gaussian, mixture or flow.", TASK)] = "cvae",
    steps: Annotated[int, _option("Environment steps, all copies together.", TASK)] = 100_000,
    seed: Annotated[int, _option("Seed of everything.", TASK)] = 0,
    n_envs: Annotated[int, _option("Copies of the environment.", TASK)] = 1,
    subprocess: Annotated[
        bool, _option("Each copy in a process of its own.", TASK, "--subprocess")
    ] = False,
    density_option: Annotated[
        list[str] | None, _option("Argument of the density: latent_dims=[8].", TASK)
    ] = None,
    dynamics: Annotated[
        str, _option("Density of the learned model, of mbpo and mpc (cvae).", TASK)
    ] = "",
    dynamics_option: Annotated[
        list[str] | None, _option("Argument of that density: latent_dims=[2].", TASK)
    ] = None,
    agent_option: Annotated[
        list[str] | None, _option("Argument of the algorithm: learning_rate=1e-3.", TASK)
    ] = None,
    env_option: Annotated[
        list[str] | None, _option("Argument of the environment: variant=s2ac-3.", TASK)
    ] = None,
    device: Annotated[str, _option("auto, cpu, cuda or cuda:NUMBER.", TASK)] = "auto",
    debug: Annotated[
        bool,
        _option(
            "The whole programme made tiny, in seconds; faults show tracebacks.", TASK, "--debug"
        ),
    ] = False,
    eval_every: Annotated[
        int | None, _option("Steps between evaluations (a tenth of --steps); 0: none.", LOOK)
    ] = None,
    eval_episodes: Annotated[
        int | None, _option("Episodes of each (as the environment wants).", LOOK)
    ] = None,
    final_episodes: Annotated[
        int | None, _option("Episodes of the last one (as the environment wants).", LOOK)
    ] = None,
    picture_every: Annotated[
        int | None, _option("Steps between pictures (a fifth of --steps); 0: none.", LOOK)
    ] = None,
    video: Annotated[bool, _option("Record an episode at the end.", LOOK)] = True,
    out: Annotated[str, _option("Folder (runs/AGENT-DENSITY-ENV-sSEED).", OUTPUT)] = "",
    overwrite: Annotated[
        bool, _option("Replace the run that is in the folder.", OUTPUT, "--overwrite")
    ] = False,
    resume: Annotated[
        bool, _option("Go on from the folder's last checkpoint.", OUTPUT, "--resume")
    ] = False,
    checkpoint_every: Annotated[
        int | None, _option("Steps between checkpoints (a quarter); 0: only the last.", OUTPUT)
    ] = None,
    keep_replay: Annotated[
        bool, _option("Keep the replay buffer in checkpoints, for --resume.", OUTPUT)
    ] = True,
    track: Annotated[
        list[str] | None, _option("Beside metrics.jsonl: wandb or tensorboard.", OUTPUT)
    ] = None,
    wandb_project: Annotated[str, _option("Project on Weights & Biases.", OUTPUT)] = "vaerl",
    wandb_mode: Annotated[str, _option("online, offline or disabled.", OUTPUT)] = "online",
    progress: Annotated[bool, _option("Show a progress bar.", OUTPUT)] = True,
) -> None:
    """Train AGENT with a policy of the named density; the run lands in a folder."""
    from vaerl.runs.config import TrainConfig

    config = TrainConfig(
        env=env,
        agent=agent,
        density=density,
        steps=steps,
        seed=seed,
        out=out,
        n_envs=n_envs,
        subprocess=subprocess,
        density_options=parse_pairs("--density-option", density_option or []),
        dynamics=dynamics,
        dynamics_options=parse_pairs("--dynamics-option", dynamics_option or []),
        agent_options=parse_pairs("--agent-option", agent_option or []),
        env_options=parse_pairs("--env-option", env_option or []),
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        final_episodes=final_episodes,
        picture_every=picture_every,
        checkpoint_every=checkpoint_every,
        keep_replay=keep_replay,
        video=video,
        device=device,
        track=tuple(track or ()),
        wandb_project=wandb_project,
        wandb_mode=wandb_mode,
    )
    _train(config.debug() if debug else config, overwrite, resume, progress)


def _train(config: TrainConfig, overwrite: bool, resume: bool, progress: bool) -> None:
    from vaerl.agents import AGENTS
    from vaerl.runs.config import check_env_id

    AGENTS.check(config.agent)  # before torch is loaded: the answer is quick
    check_env_id(config.env)

    from vaerl.runs.console import print_scores, training_bar
    from vaerl.runs.train import train as run_training

    title = f"{config.agent} {config.density} {config.env}"
    with training_bar({title: config.steps}, shown=progress) as advance:
        run = run_training(
            config,
            overwrite=overwrite,
            resume=resume,
            on_step=lambda step: advance(title, step),
        )
    status = run.status()
    print_scores(run)
    print(f"{status['state']} after {status['steps']} steps: {run.path}")
    if status["state"] == "stopped":
        print("go on with the same command and --resume")
        raise typer.Exit(130)


@app.command("eval")
def evaluate(
    run: Run,
    episodes: Annotated[
        int | None, typer.Option(help="Episodes (as many as the environment wants).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the episodes and of the policy.", min=0)] = 1,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic/--stochastic", help="The policy's best action, or a draw."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
    debug: Debug = False,
) -> None:
    """Evaluate the last checkpoint of RUN."""
    from vaerl.runs import RunDirectory

    RunDirectory.open(run)  # before torch is loaded: a mistake is answered at once

    from vaerl.disk import files, jsonio
    from vaerl.runs.console import print_table
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
    if out is not None:
        data = {"run": run.name, "step": step, **result.to_dict(episodes=True)}
        files.make_directory(out.parent)
        files.write_text(out, jsonio.dumps(data, indent=1) + "\n")
        print(out)


@app.command()
def video(
    run: Run,
    episodes: Annotated[int, typer.Option(help="Episodes, one after the other.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the episodes and of the policy.", min=0)] = 1,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic/--stochastic", help="The policy's best action, or a draw."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File, .mp4 or .gif (RUN/videos/STEP.mp4).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Record the last checkpoint of RUN: mp4, or gif where no encoder is installed."""
    from vaerl.runs import RunDirectory

    RunDirectory.open(run)

    from vaerl.runs.train import load_run
    from vaerl.runs.video import record, video_format

    agent, config, step = load_run(run)
    path = out or run / "videos" / f"{step:09d}.{video_format()}"
    print(
        record(
            agent,
            config.env,
            path,
            seed=seed,
            episodes=episodes,
            deterministic=deterministic,
            env_options=config.env_options,
        )
    )


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="RUN…")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file (report.html in or beside the runs).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write one self-contained HTML page about all RUNs given."""
    from vaerl.runs import RunDirectory

    for path in runs:
        RunDirectory.open(path)

    from vaerl.report import report as write_report

    default = runs[0] if len(runs) == 1 else runs[0].resolve().parent
    print(write_report(runs, out or default / "report.html"))


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", metavar="KIND")],
    every: Annotated[
        bool, typer.Option("--all", help="With envs: every Gymnasium id, fit or not.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List what there is to name: agents, densities, envs or experiments."""
    from vaerl.runs import console as cli_output

    check_name("list", kind, KINDS)
    rows = cli_output.listing(kind, every=every)
    width = max(len(name) for name, _ in rows)
    for name, line in rows:
        print(f"{name:<{width}}  {line}".rstrip())


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Experiment (vaerl list experiments).")] = "",
) -> None:
    """Run the experiment NAME (--preset debug: in seconds); NAME --help lists its options."""
    from vaerl.cli.experiments import help_text, read_options
    from vaerl.disk import files
    from vaerl.experiments import experiment_names, load_experiment

    if name in ("", "-h", "--help"):
        print(f"Usage: vaerl experiment NAME [OPTIONS]\n\n{context.command.help}\n")
        print(f"NAME is one of {', '.join(experiment_names())}")
        return
    function = load_experiment(name)
    arguments: list[str] = [word for word in context.args if word != "--debug"]
    if "-h" in arguments or "--help" in arguments:
        print(help_text(name, function))
        return
    options: dict[str, Any] = read_options(function, arguments)
    options["out"] = files.check_folder("--out", options.get("out", Path("runs") / name))
    print(function(**options))


@app.command()
def bench(
    groups: Annotated[
        list[str] | None, typer.Option(help="What to measure (all): sac, acting-1-drawn, …")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds in which the rivals take turns (12).", min=1)
    ] = None,
    threads: Annotated[int, typer.Option(help="Torch threads; 0: torch's choice.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER.")] = "cpu",
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time goes, instead (sac, ppo).")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(help="A bench.json: fail where a speed fell below half of it."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of bench.json (runs/bench).")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    debug: Debug = False,
) -> None:
    """Time vaerl against stable-baselines3 and SBX, side by side."""
    from vaerl.lab.bench.run import bench as run_benchmark

    names = [name for part in groups for name in part.split(",")] if groups else None
    slower = run_benchmark(out, names, rounds, threads, check, profile, progress, device)
    for line in slower:
        print(line)
    if slower:
        raise typer.Exit(1)
