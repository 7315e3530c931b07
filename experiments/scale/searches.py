"""Does a search lose trials, or run one twice, when it is killed?

    python -m vaerl.experiments.scale.searches OUT

A search of four processes is killed (SIGKILL, all of them) whenever another quarter of its trials
has ended, and begins again with the same command. Then the journal and the folders are counted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from vaerl.experiments.scale.machines import start_sweep, wait_until
from vaerl.lab.record import machine_versions, write_record
from vaerl.sweep.search import JOURNAL

TRIALS, JOBS, KILLS = 12, 4, 3
LIMIT = 3600.0  # seconds from one kill to the next
WORDS = (
    *("sac", "--env", "Pendulum-v1", "--density", "gaussian", "--steps", "300"),
    *("--agent-option", "learning_starts=100", "--agent-option", "batch_size=32"),
    *("--agent-option", 'policy_kwargs={"net_arch":[32,32]}', "--checkpoint-every", "100"),
    *("--final-episodes", "2", "--eval-every", "0", "--picture-every", "0", "--no-video"),
    *("--search", "tpe", "--space", "agent_options.learning_rate=1e-5..1e-2:log"),
    *("--trials", str(TRIALS), "--jobs", str(JOBS), "--out", "found"),
)
BEGIN, END = 0, 1  # states of a trial in Optuna's journal: running, complete
SET_PARAMETER, SET_STATE = 5, 6  # its operations


def main(out: Path) -> None:
    """Search, kill, count; write OUT/searches.json."""
    out.mkdir(parents=True, exist_ok=True)
    cells = out / "found" / "cells"
    rows: list[list[object]] = []
    for kill in range(1, KILLS + 1):
        search = start_sweep(out, *WORDS)
        wait_until(partial(_has, cells, kill * TRIALS // 4), search, LIMIT)
        os.killpg(search.pid, signal.SIGKILL)
        search.wait()
        rows.append([f"kill {kill}", len([*cells.glob("*.json")]), *counts(out)])
    assert start_sweep(out, *WORDS).wait(LIMIT) == 0
    rows.append(["the end", len([*cells.glob("*.json")]), *counts(out)])
    record = {
        "title": "A search that is killed",
        "command": "python -m vaerl.experiments.scale.searches OUT",
        "caption": f"{TRIALS} trials by TPE in {JOBS} processes, SAC on Pendulum-v1. From Optuna's "
        "journal: trials that have begun, that have drawn their settings, that have a value, and "
        "the most often that one trial did any of these.",
        "columns": ["", "cells", "begun", "drawn", "with a value", "most often"],
        "rows": rows,
        "versions": machine_versions(),
    }
    print(write_record(out / "searches.json", record).read_text())


def _has(cells: Path, number: int) -> bool:
    """Whether so many trials have ended."""
    return len([*cells.glob("*.json")]) >= number


def counts(out: Path) -> list[int]:
    """Trials that began, drew, ended; and the most often that one did."""
    lines = [json.loads(line) for line in (out / "found" / JOURNAL).read_text().splitlines()]
    kinds = [
        Counter(x["trial_id"] for x in lines if x["op_code"] == SET_STATE and x["state"] == BEGIN),
        Counter(x["trial_id"] for x in lines if x["op_code"] == SET_PARAMETER),
        Counter(x["trial_id"] for x in lines if x["op_code"] == SET_STATE and x["state"] == END),
    ]
    return [*map(len, kinds), max(count for kind in kinds for count in kind.values())]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
