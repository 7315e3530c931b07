"""Several trainings side by side, each in a process with one torch thread, under one display."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from typing import NamedTuple

from vaerl.disk.errors import RunsFailed, one_line
from vaerl.lab.workers import ends_first, worker_pool
from vaerl.runs.config import TrainConfig
from vaerl.runs.console import training_bar
from vaerl.runs.directory import RunDirectory
from vaerl.runs.signals import ignore_interrupts

POLL = 0.25  # seconds between two looks at the steps done
SAME = ("agent", "env", "density", "steps", "seed", "n_envs")
SAME_OPTIONS = ("density_options", "agent_options", "env_options")


class _Shared(NamedTuple):
    """What a worker process shares with its parent."""

    steps: SynchronizedArray
    """Steps done, one a run."""
    stop: Event
    """Set once no further run is to begin."""


_shared: _Shared | None = None  # of a worker process


def train_all(
    configs: Mapping[str, TrainConfig],
    *,
    jobs: int = 2,
    bar: str = "",
    shown: bool = True,
) -> dict[str, RunDirectory]:
    """Train every configuration that is not finished yet; returns the runs by title.

    A run that was interrupted goes on from its last checkpoint. One that fails does not stop the
    others; when all have ended, the failures are raised together.

    Args:
        configs: what to train, by the title of its progress bar.
        jobs: processes at most.
        bar: title of one progress bar for all; without it each run has its own.
        shown: whether to show progress.

    Raises:
        ValueError: `jobs` below 1, or a folder that holds another run than the one described.
        RunsFailed: some trainings failed; one line that names them.
    """
    if jobs < 1:
        raise ValueError(f"jobs {jobs!r} must be a whole number, 1 or more")
    titles = list(configs)
    waiting = [title for title in titles if not is_finished(configs[title])]
    context = multiprocessing.get_context("spawn")
    steps = context.Array("q", len(titles))
    stop = context.Event()
    failures: list[str] = []
    totals = {title: config.steps for title, config in configs.items()}
    for title in set(titles) - set(waiting):
        steps[titles.index(title)] = totals[title]
    with training_bar({bar: sum(totals.values())} if bar else totals, shown=shown) as advance:

        def show() -> None:
            done: list[int] = steps[:]
            if bar:
                advance(bar, sum(done))
            for title, step in zip(titles, done, strict=True):
                if not bar:
                    advance(title, step)

        show()
        pool = worker_pool(min(jobs, max(1, len(waiting))), _begin, (steps, stop))
        futures: dict[Future[str], str] = {
            pool.submit(_train_one, configs[t], titles.index(t)): t for t in waiting
        }
        try:
            running = set(futures)
            while running:
                ended, running = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
                show()
                for future in ended:
                    error = future.exception()
                    if error is not None:
                        failures.append(f"{futures[future]}: {one_line(error)}")
                        print(f"vaerl: {failures[-1]}", file=sys.stderr)
                    elif future.result() == "stopped":
                        raise KeyboardInterrupt
        finally:  # interrupted: the running ones save their last state, the others do not start
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise RunsFailed(f"{len(failures)} of {len(titles)} runs failed: {'; '.join(failures)}")
    return {title: RunDirectory(config.out) for title, config in configs.items()}


def is_finished(config: TrainConfig) -> bool:
    """Whether the run that `config` describes has been trained and evaluated to its end.

    Raises ValueError if its folder holds a run with other settings.
    """
    from vaerl.runs.train import read_config, read_evaluation

    run = RunDirectory(config.out)
    if not run.config_path.exists():
        return False
    before, wanted = read_config(run), config.resolved()
    for name in SAME + SAME_OPTIONS:
        old, new = getattr(before, name), getattr(wanted, name)
        if old != new:
            raise ValueError(
                f"run {str(run.path)!r} has {name} {old!r}, not {new!r}; choose another --out"
            )
    return run.status()["state"] == "finished" and read_evaluation(run) is not None


def _begin(steps: SynchronizedArray, stop: Event) -> None:
    """Keep, in a worker process, what its runs share with the parent, which says when to stop."""
    global _shared
    _shared = _Shared(steps, stop)
    ignore_interrupts()


def _train_one(config: TrainConfig, index: int) -> str:
    """Train in a worker process and return the state it ended in; ends with its parent."""
    from vaerl.runs.train import train

    assert _shared is not None
    shared, told = _shared, False
    parent = multiprocessing.parent_process()
    assert parent is not None

    def is_over() -> bool:
        return shared.stop.is_set() or not parent.is_alive()

    def on_step(step: int) -> None:
        nonlocal told
        shared.steps[index] = step
        if step < config.steps and not told and is_over():
            told = True  # once: a second signal would not wait for the last state to be saved
            os.kill(os.getpid(), signal.SIGTERM)

    if is_over():
        return "stopped"
    with ends_first():
        return str(train(config, resume=True, on_step=on_step).status()["state"])
