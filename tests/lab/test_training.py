"""Runs as cells: an interrupt or the death of the parent lets every run save its last state."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.processes import is_alive, start_parent, wait_for
from vaerl.lab.training import finish_run, is_finished
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig

SHORT = TrainConfig(
    env="vaerl/PointMass-v0",
    agent="ppo",
    density="gaussian",
    steps=64,
    eval_every=0,
    picture_every=0,
    final_episodes=1,
    video=False,
    agent_options={"n_steps": 64},
)


def test_a_finished_run_is_kept_and_another_is_refused(tmp_path: Path) -> None:
    config = replace(SHORT, out=str(tmp_path / "run"))
    assert not is_finished(config)
    steps: list[float] = []
    run = finish_run(config, steps.append)
    assert steps[-1] == 64 and is_finished(config)
    before = run.status()
    finish_run(config, steps.append)
    assert run.status() == before
    with pytest.raises(
        ValueError, match=r"run: made with other settings \(seed: got 0, expected 1"
    ):
        finish_run(replace(config, seed=1), steps.append)


def test_a_killed_parent_takes_its_runs_along(tmp_path: Path) -> None:
    """The worker saves the last state, records that it was stopped, and ends."""
    parent, workers = start_long_runs(tmp_path, ["a"])
    parent.kill()
    parent.wait()
    wait_for(lambda: RunDirectory(tmp_path / "a").status()["state"] == "stopped")
    wait_for(lambda: not any(map(is_alive, workers)))
    assert list((tmp_path / "a").glob("checkpoints/*/manifest.json"))
    assert "Traceback" not in (tmp_path / "printed").read_text()


def test_an_interrupt_of_all_processes_stops_every_run(tmp_path: Path) -> None:
    """Ctrl-C reaches parent and workers at once: all runs save their state, no more begin."""
    parent, workers = start_long_runs(tmp_path, ["a", "b", "c"])
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(60) != 0
    assert not any(map(is_alive, workers))
    for name in "ab":
        assert RunDirectory(tmp_path / name).status()["state"] == "stopped"
        assert list((tmp_path / name).glob("checkpoints/*/manifest.json"))
    assert not (tmp_path / "c").exists()


def start_long_runs(folder: Path, names: list[str]) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Runs of a million steps, two at a time, once they have begun."""
    configs = [replace(SHORT, steps=10**6, out=str(folder / name)) for name in names]
    started = start_parent(folder, finish_run, configs)
    wait_for(lambda: all((folder / name / "metrics.jsonl").exists() for name in names[:2]))
    return started
