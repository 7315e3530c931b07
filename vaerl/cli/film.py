"""The command `vaerl video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaerl.cli.arguments import AllowModule, Debug, Deterministic, Run, Seed, allow
from vaerl.runs import RunDirectory


def video(
    run: Run,
    episodes: Annotated[int, typer.Option(help="Episodes in the video.", min=1)] = 1,
    frames: Annotated[int | None, typer.Option(help="Most frames (default: 240).", min=1)] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    seed: Seed = 1,
    deterministic: Deterministic = False,
    out: Annotated[
        Path | None, typer.Option(help="File, mp4 or gif (default: RUN/videos/STEP.mp4).")
    ] = None,
    allow_module: AllowModule = None,
    debug: Debug = False,
) -> None:
    """Record a video of the last checkpoint of RUN: mp4, or gif if no encoder is installed."""
    allow(allow_module)
    RunDirectory.open(run)

    from vaerl.lab.console import training_bar
    from vaerl.runs.train import load_run
    from vaerl.runs.video import MOST_FRAMES, record, video_format

    agent, config, step = load_run(run)
    path = out or run / "videos" / f"{step:09d}.{video_format()}"
    title = f"frames of {config.env}"
    with training_bar({title: frames or MOST_FRAMES}, shown=progress) as advance:
        film = record(
            agent,
            config.env,
            path,
            seed=seed,
            episodes=episodes,
            deterministic=deterministic,
            env_options=config.env_options,
            most_frames=frames or MOST_FRAMES,
            on_frame=lambda count: advance(title, count),
        )
    print(film)
