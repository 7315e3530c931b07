"""An offline run that is killed and resumed is one run with one curve once it is uploaded."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.track.wandb_server import Wandb
from vaerl.runs.directory import RunDirectory

CUTS = ((0, 5, 1), (4, 9, 1), (8, 12, 1), (10, 14, 0))
"""Begin, end, and whether the part is killed; a part begins at the last checkpoint."""


def test_three_kills_and_one_curve(tmp_path: Path) -> None:
    """Rows before a kill that the client lost, and those after the checkpoint, stand once."""
    here = Path(__file__).parents[2]
    own = {k: v for k, v in os.environ.items() if "WANDB" not in k}  # other tests leave a service
    environment = {**own, "WANDB_MODE": "offline", "PYTHONPATH": str(here)}
    for part in CUTS:
        command = [sys.executable, "-m", "tests.track.wandb_cut", str(tmp_path), *map(str, part)]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == (-9 if part[2] else 0), done.stderr[-2000:]
    parts = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(parts) == len(CUTS)
    server = Wandb()
    try:
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40}
        del environment["WANDB_MODE"]
        wandb = Path(sysconfig.get_path("scripts"), "wandb")
        command = [str(wandb), "sync", str(tmp_path / "wandb" / "latest-run")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        server.close()
    (run,) = server.runs.values()
    found = [
        (row["env_steps"], row["train/loss"], row["text"])
        for _, row in sorted(run.history.items())
        if "train/loss" in row
    ]
    rows = RunDirectory(tmp_path).metrics()
    assert found == [(row["global_step"], row["train/loss"], row["text"]) for row in rows]
    assert [step for step, *_ in found] == list(range(14))
    assert run.fields["groupName"] == "sac-cvae-Pendulum-v1"
