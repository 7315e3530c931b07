"""What does a trial cost beside its training? Time on Ray, and memory of the command.

    python -m vaerl.experiments.scale.cost OUT

Trials that wait a minute, two at a time, by processes and by Ray in turns. The time from one trial
to the next is overhead of a trial, that before the first is the start of the sweep. Then many
trials that do nothing: how many the command can start, and the memory that they take there.
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
from statistics import mean
from typing import Any

from vaerl.lab.on_ray import OnRay
from vaerl.lab.pool import Executor, Tick, make_processes
from vaerl.lab.record import machine_versions, write_record

SECONDS = 60.0
ITEMS, JOBS = 6, 2
ORDER = ("processes", "ray", "ray", "processes")
MANY = (100, 400)


def wait(seconds: float, tick: Tick) -> tuple[float, float]:
    """Work that takes its time and no core; when it began and ended."""
    start = time.time()
    time.sleep(seconds)
    return start, time.time()


def executor(name: str, out: Path) -> Executor:
    """The one of that name."""
    return make_processes(JOBS) if name == "processes" else OnRay(JOBS, "", out)


def measure(name: str, seconds: float, items: int, out: Path) -> dict[str, float]:
    """Run the items: seconds to the first, overhead of each, megabytes of this process."""
    asked = time.time()
    ends = list(executor(name, out).run(wait, [seconds] * items, lambda place, amount: None))
    assert len(ends) == items and not any(end.error for end in ends)
    first = min(end.value[0] for end in ends)
    last = max(end.value[1] for end in ends)
    return {
        "start": first - asked,
        "overhead": (last - first) * JOBS / items - seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def apart(name: str, seconds: float, items: int, out: Path) -> dict[str, Any]:
    """`measure` in a process of its own, so that memory is that of one sweep."""
    words = [sys.executable, "-m", __spec__.name, name, str(seconds), str(items), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(out: Path) -> None:
    """Measure all and write OUT/cost.json."""
    out.mkdir(parents=True, exist_ok=True)
    sweeps = [*((name, SECONDS, ITEMS) for name in ORDER), *(("ray", 0.0, items) for items in MANY)]
    rows: list[list[Any]] = []
    for name, seconds, items in sweeps:
        found = apart(name, seconds, items, out)
        rows.append([f"{items} trials of {seconds:.0f} s", name, *found.values()])
        print(rows[-1], flush=True)
    over = {n: mean(r[3] for r in rows[: len(ORDER)] if r[1] == n) for n in set(ORDER)}
    share = 100 * (over["ray"] - over["processes"]) / (SECONDS + over["processes"])
    record = {
        "title": "Cost of a trial beside its training",
        "command": "python -m vaerl.experiments.scale.cost OUT",
        "caption": f"Trials that wait, {JOBS} at a time on one machine, the executors in turns. "
        "Start: seconds from the call to the first trial. Overhead: seconds a trial, from the "
        "first to the last, beyond its waiting. Memory: the most that the command's process took.",
        "columns": ["sweep", "executor", "start, s", "overhead, s a trial", "memory, MB"],
        "rows": rows,
        "notes": [f"Ray beside processes at trials of {SECONDS:.0f} s: {share:+.1f} % a trial."],
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
