"""Do trials survive what happens to machines? A sweep on two machines that fail, and one alone.

    python -m vaerl.experiments.scale.faults OUT

Two nodes of a Ray cluster on loopback train the trials of a sweep. When a fifth of them has ended,
the worker of a running one is killed (SIGKILL); at two fifths a node is cut off; at three fifths
the head and the command are. The same command on a new cluster ends the sweep. Every trial is then
compared with that of a sweep in one process: scores and all tensors of the last checkpoint.
"""

from __future__ import annotations

import os
import secrets
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vaerl.checkpoint.read import find_checkpoint
from vaerl.experiments.scale.machines import Machines, owner_of, start_sweep, wait_until
from vaerl.lab.on_ray import ALONE, SETTINGS
from vaerl.lab.record import machine_versions, write_record
from vaerl.runs import RunDirectory

SEEDS = 25
DENSITIES = ("gaussian", "cvae")
WORDS = (
    *("sac", "--env", "Pendulum-v1", "--steps", "300", "--checkpoint-every", "100"),
    *("--agent-option", "learning_starts=100", "--agent-option", "batch_size=32"),
    *("--agent-option", 'policy_kwargs={"net_arch":[32,32]}'),
    *("--final-episodes", "2", "--eval-every", "0", "--picture-every", "0", "--no-video"),
    *("--grid", f"density={','.join(DENSITIES)}", "--seeds", f"0-{SEEDS - 1}"),
)
NAMES = [f"{density}-s{seed}" for density in DENSITIES for seed in range(SEEDS)]
LIMIT = 7200.0  # seconds for each part of the sweep


def main(out: Path) -> None:
    """Run both sweeps and write OUT/faults.json."""
    out.mkdir(parents=True, exist_ok=True)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    os.environ.update({**SETTINGS, **ALONE, **token})
    start = time.monotonic()
    events = fail_and_finish(out)
    ray_seconds = time.monotonic() - start
    alone = start_sweep(out, *WORDS, "--jobs", "1", "--out", "alone")
    assert alone.wait(LIMIT) == 0, "the sweep alone failed"
    equal = sum(found(out / "ray" / name) == found(out / "alone" / name) for name in NAMES)
    resumed = [name for name in NAMES if owners(out / "ray" / name) > 1]
    files, sizes = zip(*(footprint(out / "ray" / name) for name in NAMES), strict=True)
    record = {
        "title": "Trials on two machines that fail",
        "command": "python -m vaerl.experiments.scale.faults OUT",
        "caption": f"{len(NAMES)} trainings by SAC on Pendulum-v1, 300 steps each, on a Ray "
        "cluster of two nodes with a core each on loopback. Equal: the scores of the final "
        "evaluation and every tensor of the last checkpoint are those of a sweep in one process.",
        "columns": ["event", "trials ended before"],
        "rows": [*([name, count] for name, count in events)],
        "notes": [
            f"{sum((out / 'ray' / name / 'evaluation.json').exists() for name in NAMES)} of "
            f"{len(NAMES)} trials ended; {equal} are equal, bit for bit.",
            "Trials that had a second owner and went on from their last checkpoint: "
            f"{', '.join(resumed)}.",
            f"A finished trial leaves {statistics.median(files):.0f} files and "
            f"{statistics.median(sizes) / 1e6:.1f} MB in its folder.",
            f"Wall time on Ray with all events: {ray_seconds:.0f} s, on a machine that did other "
            "work.",
        ],
        "versions": machine_versions(),
    }
    print(write_record(out / "faults.json", record).read_text())


def fail_and_finish(out: Path) -> list[tuple[str, int]]:
    """Train on machines that fail; each event with the number of trials that had ended."""
    words = (*WORDS, "--executor", "ray", "--jobs", "2", "--out", "ray", "--ray-address")
    events: list[tuple[str, int]] = []
    machines = Machines()
    sweep = start_sweep(out, *words, machines.address)
    try:
        wait_until(lambda: ended(out) >= len(NAMES) // 5, sweep, LIMIT)
        events.append(kill_a_worker(out, sweep))
        wait_until(lambda: ended(out) >= 2 * len(NAMES) // 5, sweep, LIMIT)
        events.append(("a node is cut off", ended(out)))
        machines.remove()
        wait_until(lambda: ended(out) >= 3 * len(NAMES) // 5, sweep, LIMIT)
        events.append(("the head is cut off; the command begins again", ended(out)))
    finally:
        machines.stop()
        sweep.kill()
        sweep.wait()
    machines = Machines()
    try:
        again = start_sweep(out, *words, machines.address)
        assert again.wait(LIMIT) == 0, "the second command failed"
    finally:
        machines.stop()
    events.append(("the command ends", ended(out)))
    return events


def kill_a_worker(out: Path, sweep: subprocess.Popen[str]) -> tuple[str, int]:
    """Kill the process of a trial that has saved a checkpoint and is not at its end."""

    def trains(name: str) -> bool:
        run = out / "ray" / name
        return bool([*run.glob("checkpoints/*/manifest.json")]) and not over(run)

    wait_until(lambda: any(map(trains, NAMES)), sweep, LIMIT)
    for name in filter(trains, NAMES):
        if (worker := owner_of(out / "ray" / name)) is not None:
            count = ended(out)
            os.kill(worker, signal.SIGKILL)
            return f"the worker of {name} is killed", count
    return kill_a_worker(out, sweep)


def over(run: Path) -> bool:
    """Whether a run has been evaluated at its end."""
    return (run / "evaluation.json").exists()


def ended(out: Path) -> int:
    """Trials with a result."""
    return len([*(out / "ray" / "cells").glob("*.json")])


def found(run: Path) -> dict[str, Any]:
    """Scores of a run, and the tensors of its last checkpoint as bytes."""
    evaluation = RunDirectory.open(run).evaluation() or {}
    tensors = find_checkpoint(run / "checkpoints").tensors
    kinds = {kind: evaluation.get(kind) for kind in ("stochastic", "deterministic")}
    return kinds | {name: value.numpy().tobytes() for name, value in tensors.items()}


def owners(run: Path) -> int:
    """Processes that have had a run, one after the other."""
    return int((run / ".owner").read_text().split()[0])


def footprint(run: Path) -> tuple[int, int]:
    """Files and bytes of a run."""
    sizes = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
