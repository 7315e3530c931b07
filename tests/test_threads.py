"""Training runs on one thread in every library unless the user asks for more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Trains both agents in a plain process; prints the threads of all pools before, inside and after.
CHILD = """
import json, sys, torch
from threadpoolctl import threadpool_info
from vaerl.runs.config import TrainConfig
from vaerl.runs.train import train

def pools():
    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]

torch.ones(2) @ torch.ones(2)
seen = {}
before = pools()
options = {"sac": {"learning_starts": 20}, "ppo": {"n_steps": 24, "n_epochs": 1}}
for agent in ("sac", "ppo"):
    config = TrainConfig(
        agent=agent, env="Pendulum-v1", density="cvae", steps=24, out=f"{sys.argv[1]}/{agent}",
        agent_options=options[agent], eval_episodes=1, final_episodes=1, video=False,
    )
    train(config, on_step=lambda step: seen.__setitem__(agent, pools()))
print("THREADS", json.dumps({"before": before, **seen, "after": pools()}))
"""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS")


def counts(out: Path, **chosen: str) -> dict[str, list[int]]:
    """Threads of torch and of every other pool at each moment, with these variables set."""
    env = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(out)],
        env=env | {"OMP_WAIT_POLICY": "passive"} | chosen,  # two threads on a busy machine
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("THREADS ")]
    return json.loads(line.removeprefix("THREADS "))


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)], ids=["plain", "chosen"]
)
def test_every_pool_has_as_many_threads_inside_training(
    chosen: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    found = counts(tmp_path, **chosen)
    most = os.cpu_count() or 1
    for agent in ("sac", "ppo"):
        assert len(found[agent]) > 2, "OpenMP and BLAS beside torch"
        assert {min(count, most) for count in found[agent]} == {min(expected, most)}, found
    assert found["after"][: len(found["before"])] == found["before"]
