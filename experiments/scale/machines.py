"""Two machines of a Ray cluster, played by this one: they can lose a worker, leave, and restart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCRIPT = """
import sys
from ray.cluster_utils import Cluster

place = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
cluster = Cluster(initialize_head=True, head_node_args={**place, "include_dashboard": False})
second = cluster.add_node(wait=True, **place)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""

STARTS = 5
"""Ray gives a node half a minute to start, which a busy machine may not have."""


class Machines:
    """A head and one more machine with a core each, on loopback, without a dashboard.

    They live in a process of their own, since Ray reads its settings once a process.
    """

    def __init__(self) -> None:
        for _ in range(STARTS):
            self._process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.address = self._answer()
            """HOST:PORT of the head."""
            if self.address:
                return
        raise RuntimeError("the cluster did not start")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def remove(self) -> None:
        """Cut the power of the second machine."""
        assert self._process.stdin is not None
        self._process.stdin.write("remove\n")
        self._process.stdin.flush()
        self._answer()

    def stop(self) -> None:
        """Cut the power of all."""
        self._process.communicate()


def start_sweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command in its own process; its output goes to FOLDER/printed."""
    with (folder / "printed").open("a") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "vaerl.cli", "sweep", *words],
            cwd=folder, stdout=printed, stderr=printed, text=True, start_new_session=True,
        )  # fmt: skip


def owner_of(run: Path) -> int | None:
    """The process that trains in the folder of a run: it has the lock open."""
    lock = run / ".lock"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_open(process, lock):
            return int(process.name)
    return None


def _has_open(process: Path, file: Path) -> bool:
    try:
        return any(os.readlink(link) == str(file) for link in (process / "fd").iterdir())
    except OSError:  # it has ended, or belongs to somebody else
        return False


def wait_until(
    condition: Callable[[], bool], sweep: subprocess.Popen[str], seconds: float = 600.0
) -> None:
    """Wait until `condition` holds while the command runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        code = sweep.poll()
        assert code is None or condition(), f"the command ended with {code}"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
