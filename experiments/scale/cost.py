"""What does a trial cost beside its training? Time on Ray, and memory of the command.

    python -m vaerl.experiments.scale.cost OUT

Items that wait a minute, two at a time, by processes and by Ray in turns; what the sweep
takes beyond the waiting is overhead. Then many items that do nothing: what the command can start.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vaerl.lab.on_ray import OnRay
from vaerl.lab.pool import Executor, Tick, make_processes
from vaerl.lab.record import machine_versions, write_record

SECONDS = 60.0
ITEMS, JOBS = 4, 2
ORDER = ("processes", "ray", "ray", "processes")
MANY = (100, 400)


def wait(seconds: float, tick: Tick) -> None:
    """Work that takes its time and no core."""
    time.sleep(seconds)


def executor(name: str, out: Path) -> Executor:
    """The one of that name."""
    return make_processes(JOBS) if name == "processes" else OnRay(JOBS, "", out)


def measure(name: str, seconds: float, items: int, out: Path) -> dict[str, Any]:
    """Run the items; wall seconds and megabytes of this process."""
    start = time.monotonic()
    ends = list(executor(name, out).run(wait, [seconds] * items, lambda place, amount: None))
    assert len(ends) == items and not any(end.error for end in ends)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.monotonic() - start, "megabytes": memory}


def apart(name: str, seconds: float, items: int, out: Path) -> dict[str, Any]:
    """`measure` in a process of its own, so that memory is that of one sweep."""
    words = [sys.executable, "-m", __spec__.name, name, str(seconds), str(items), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(out: Path) -> None:
    """Measure all and write OUT/cost.json."""
    out.mkdir(parents=True, exist_ok=True)
    rounds = ITEMS / JOBS
    rows: list[list[Any]] = []
    for name in ORDER:
        found = apart(name, SECONDS, ITEMS, out)
        over = found["seconds"] / rounds - SECONDS
        rows.append([f"{ITEMS} trials of {SECONDS:.0f} s", name, over, found["megabytes"]])
        print(rows[-1], flush=True)
    for items in MANY:
        found = apart("ray", 0.0, items, out)
        rows.append([f"{items} trials of 0 s", "ray", found["seconds"] / items, found["megabytes"]])
        print(rows[-1], flush=True)
    over = {n: sum(r[2] for r in rows[: len(ORDER)] if r[1] == n) / 2 for n in set(ORDER)}
    share = 100 * (over["ray"] - over["processes"]) / (SECONDS + over["processes"])
    record = {
        "title": "Cost of a trial beside its training",
        "command": "python -m vaerl.experiments.scale.cost OUT",
        "caption": f"Trials that wait, {JOBS} at a time on one machine, the two executors in "
        "turns. Overhead: wall seconds a trial beyond its waiting, the start of the cluster "
        "included. Memory: largest of the command's process.",
        "columns": ["sweep", "executor", "overhead, s a trial", "memory, MB"],
        "rows": rows,
        "notes": [f"Ray beside processes at trials of {SECONDS:.0f} s: {share:+.1f} %."],
        "versions": machine_versions(),
    }
    print(write_record(out / "cost.json", record).read_text())


if __name__ == "__main__":
    if len(sys.argv) == 2:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        os.environ.update(token)
        main(Path(sys.argv[1]))
    else:
        kind, waited, count, place = sys.argv[1:]
        print(json.dumps(measure(kind, float(waited), int(count), Path(place))))
