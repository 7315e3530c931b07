"""A process with workers, to be killed or interrupted."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaerl.lab.pool import Work

PARENT = """
import multiprocessing, pickle, signal, threading, time
from pathlib import Path
from vaerl.lab.pool import make_executor

def tell():
    while len(found := multiprocessing.active_children()) < {workers}:
        time.sleep(0.1)
    Path("pids").write_text(" ".join(str(child.pid) for child in found) + ".")

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=tell, daemon=True).start()
    work, items = pickle.loads(Path("work").read_bytes())
    list(make_executor(2).run(work, items, lambda place, done: None))
"""


def start_parent(
    folder: Path, work: Work, items: Sequence[Any]
) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that does `work` in two workers, in its own process group, and their ids."""
    (folder / "script.py").write_text(PARENT.replace("{workers}", str(min(2, len(items)))))
    (folder / "work").write_bytes(pickle.dumps((work, items)))
    with (folder / "printed").open("w") as printed:
        parent = subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=folder,
            stderr=printed,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    pids = folder / "pids"
    wait_for(lambda: pids.exists() and pids.read_text().endswith("."))
    return parent, [int(pid) for pid in pids.read_text()[:-1].split()]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
