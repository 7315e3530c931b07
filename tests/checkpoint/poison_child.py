"""Loads every directory named in a list, under an audit hook; prints what happened as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

from tests.runs.tiny import Corridor
from vaerl.checkpoint import load_checkpoint
from vaerl.disk.errors import VaerlLoadError

FORBIDDEN = [
    "exec",
    "compile",
    "import",
    "marshal.loads",
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.putenv",
    "socket.connect",
    "socket.bind",
    "ctypes.dlopen",
    "shutil.rmtree",
    "webbrowser.open",
]
violations: list[str] = []
watching = False


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what no loader has a reason to do."""
    if not watching:
        return
    if event in FORBIDDEN:
        violations.append(f"{event} {arguments!r}"[:200])
    elif event == "open":
        _, mode, flags = arguments
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & writes:
            violations.append(f"{event} {arguments!r}"[:200])


def attempt(path: str) -> dict[str, Any]:
    """Load one checkpoint in every way that is offered."""
    global watching
    violations.clear()
    start = time.perf_counter()
    watching = True
    try:
        load_checkpoint(path, include_replay=True, restore_rng=True)
        load_checkpoint(path, ENV, include_replay=True)
        outcome = "loaded"
    except VaerlLoadError as error:
        outcome = f"refused: {error}"
    except BaseException:
        outcome = f"other: {traceback.format_exc()}"
    watching = False
    return {
        "outcome": outcome,
        "violations": list(violations),
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    good, listing = sys.argv[1:]
    ENV = Corridor()
    attempt(good)  # warms what torch and stable-baselines3 import at their first use
    sys.addaudithook(hook)
    with open(listing) as file:
        paths = json.load(file)
    print(json.dumps({name: attempt(path) for name, path in paths.items()}))
