"""A program that is killed while it trains, as far as its trackers can tell.

    python -m tests.track.wandb_cut FOLDER BEGIN END KILLED

It resumes at step BEGIN, whose later rows it drops, logs each step before END, and then kills
itself if KILLED is 1.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.track import JsonlTracker, Trackers, WandbTracker


def main() -> None:
    """Log a row for each step."""
    run, (begin, end, killed) = RunDirectory(sys.argv[1]), map(int, sys.argv[2:])
    config = TrainConfig("Pendulum-v1", steps=end, track=("wandb",), wandb_mode="offline")
    if begin:
        run.drop_metrics_after(begin - 1)
    trackers = Trackers(
        [JsonlTracker(run.metrics_path), WandbTracker.for_run(run.path, config.to_dict())]
    )
    trackers.start(config.to_dict())
    for step in range(begin, end):
        trackers.log({"train/loss": 1.0 / (1 + step), "text": f"step {step}"}, step)
    trackers.sync()
    assert not trackers.failures, trackers.failures
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    evaluation = Path(run.path, "evaluation.json")
    evaluation.write_text("{}")
    trackers.keep("evaluation", "evaluation", {"evaluation.json": evaluation})
    trackers.finish()


if __name__ == "__main__":
    main()
