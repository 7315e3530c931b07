"""kill -9 at random moments of trainings, half of them inside of writes: nothing is lost.

VAERL_KILLS=1000 pytest tests/runs/test_kills.py kills a thousand times.
"""

from __future__ import annotations

import os
import random
import select
import signal
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

import tests.runs.tiny  # noqa: F401  (registers the environment)
from vaerl.checkpoint import find_checkpoint, save_checkpoint
from vaerl.checkpoint.read import list_checkpoints
from vaerl.disk import files
from vaerl.runs import RunDirectory
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import train

KILLS = int(os.environ.get("VAERL_KILLS", "10"))
LATEST = 0.4
"""Seconds after which a process that is killed from outside is killed at the latest."""
WRITES = 120
"""Calls of the operating system that write, among which one kills."""
OPTIONS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    "sac": {"learning_starts": 10, "batch_size": 4, "buffer_size": 200},
}


def wanted(agent: str, out: Path) -> TrainConfig:
    """A training that saves every 16 steps."""
    return TrainConfig(
        env="Corridor-v0",
        agent=agent,
        density="cvae",
        steps=160,
        checkpoint_every=16,
        keep_replay=True,
        eval_every=0,
        picture_every=0,
        final_episodes=1,
        video=False,
        device="cpu",
        out=str(out),
        agent_options={**OPTIONS[agent], "policy_kwargs": {"net_arch": [8]}},
    )


class DeadlyOs:
    """Stands for the module `os` in `vaerl.disk.files`: the process is killed at one call."""

    def __init__(self, at: int | None) -> None:
        self.left = at

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "ftruncate", "replace", "rename", "makedirs", "unlink"):
            return real

        def call(*given: Any, **options: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    if name == "write":
                        real(given[0], given[1][: len(given[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **options)

        return call

    def fsync(self, fd: int) -> None:
        """Nothing: a kill takes no page of the system along, and the flush is slow."""


def start(config: TrainConfig, at: int | None, **mode: bool) -> tuple[int, int]:
    """A process that trains, and a pipe on which it tells the step of each finished save."""
    theirs: Any
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    code = 1
    try:
        torch.set_num_threads(1)
        files.os = DeadlyOs(at)  # type: ignore[assignment]

        def save(agent: Any, *given: Any, num_timesteps: int, **options: Any) -> Path:
            path = save_checkpoint(agent, *given, num_timesteps=num_timesteps, **options)
            os.write(theirs, f"{num_timesteps} ".encode())
            return path

        pytest.MonkeyPatch().setattr("vaerl.runs.callback.checkpoint.save_checkpoint", save)
        train(config, **mode)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end(child: int, told: int) -> tuple[int, list[int]]:
    """Exit code of the process, and the steps that it told."""
    _, status = os.waitpid(child, 0)
    with os.fdopen(told, "rb") as pipe:
        steps = [int(word) for word in pipe.read().split()]
    return os.waitstatus_to_exitcode(status), steps


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Networks and optimizers of the last checkpoint."""
    tensors = find_checkpoint(run, include_replay=True).tensors
    return {k: v for k, v in tensors.items() if k.startswith(("modules/", "optimizers/"))}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("agent", OPTIONS)
def test_nothing_that_was_saved_is_lost(
    agent: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each process resumes what the last one left; the end is that of a run without kills."""
    train(wanted(agent, tmp_path / "whole"))
    expected, chance = weights(tmp_path / "whole"), random.Random(KILLS)
    kills, out = 0, tmp_path / "run"  # `kills` also in a file, since a thousand take a while
    config, run = wanted(agent, out), RunDirectory(out)
    while kills < KILLS // 2:
        saved, finished = -1, False
        while not finished:
            inside, outside = kills % 2 == 0, kills % 2 == 1 and kills < KILLS // 2
            again = saved < 0 and run.holds_work  # without an own checkpoint, or of the last round
            mode = {"overwrite": again, "resume": not again}
            child, told = start(config, chance.randrange(WRITES) if inside else None, **mode)
            if outside:
                select.select([], [], [], chance.uniform(0.0, LATEST))
                os.kill(child, signal.SIGKILL)
            code, steps = end(child, told)
            said = capfd.readouterr().err
            assert code in (0, -signal.SIGKILL), said
            assert "damaged" not in said and "left out" not in said, said
            kills += code != 0
            (tmp_path / "kills").write_text(f"{kills}\n")
            saved = max([saved, *steps])
            finished = code == 0 or (saved >= 0 and run.status()["state"] == "finished")
            if saved >= 0:
                assert find_checkpoint(out, include_replay=True).num_timesteps >= saved
            if list_checkpoints(run.checkpoints_path):
                rows = [row["global_step"] for row in run.metrics()]
                assert rows == sorted(rows) and run.status()["state"] in ("running", "finished")
        found = weights(out)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
