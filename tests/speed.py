"""How many times as fast one call is as another, on a machine that others use too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TURNS, ROUNDS = 40, 12


def speedup(slow: Callable[[], object], fast: Callable[[], object], enough: float = 1.1) -> float:
    """Ratio of the shortest times of both calls, which take turns.

    Another process lengthens a turn and never shortens one, so the shortest of many turns is that
    of an undisturbed one. Turns go on until the ratio is `enough`, at most `ROUNDS` times `TURNS`.
    """
    shortest = {slow: float("inf"), fast: float("inf")}
    for _ in range(ROUNDS):
        for _ in range(TURNS):
            for call in shortest:
                start = time.perf_counter()
                call()
                shortest[call] = min(shortest[call], time.perf_counter() - start)
        if shortest[slow] >= enough * shortest[fast]:
            break
    return shortest[slow] / shortest[fast]


def in_plain_shell(code: str, *arguments: str) -> list[float]:
    """The numbers that code prints in a process without any setting of threads."""
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), env.get("PYTHONPATH", "")])
    run = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(run, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]
