"""A program that tracks with W&B against a server on this machine that behaves badly.

    python -m tests.track.wandb_child refuse|hang|error|dies DIRECTORY

Prints as JSON the lines said, the 99th percentile of a `log` call, how long `start` and `finish`
took, and when the last instruction ran (exit may not take longer).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests import loopback

BUCKET = {
    "id": "aQ==",
    "displayName": "run",
    "config": "{}",
    "historyLineCount": 0,
    "project": {"id": "cA==", "name": "vaerl", "entity": {"id": "ZQ==", "name": "someone"}},
}
STEPS = 300
dead = threading.Event()
received: list[str] = []


class Handler(loopback.Handler):
    """Answers 500, or as much of W&B's protocol as a run needs until `dead` is set."""

    kind = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if dead.is_set():
            time.sleep(1000)
        received.append(self.path)
        answer: dict[str, Any] = {}
        if b"UpsertBucket" in body:
            bucket = {**BUCKET, "name": json.loads(body)["variables"]["name"]}
            answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif self.path.startswith("/graphql"):
            answer = {"data": None, "errors": [{"message": "not here"}]}
        self.send_json(answer, 500 if self.kind == "error" else 200)

    do_GET = do_PUT = do_POST


def serve(kind: str) -> int:
    """The port of a server that refuses, hangs, fails, or dies later."""
    if kind in ("refuse", "hang"):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        if kind == "hang":
            listener.listen(64)
            globals()["keep"] = listener
        return listener.getsockname()[1]
    Handler.kind = kind
    return loopback.Server(Handler).port


def main() -> None:
    """Train for a second, as far as the tracker can tell."""
    kind, directory = sys.argv[1], Path(sys.argv[2])
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        os.environ.pop(name, None)
    os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{serve(kind)}"
    os.environ["WANDB_API_KEY"] = "0" * 40
    from vaerl.track import Trackers, WandbTracker

    said: list[str] = []
    wandb = WandbTracker(
        directory,
        init_timeout=30.0 if kind == "dies" else 1.0,
        finish_timeout=6.0 if kind == "dies" else 120.0,
        say=said.append,
    )
    tracker = Trackers([wandb], said.append)
    before = time.perf_counter()
    tracker.start({"seed": 0})
    started = time.perf_counter() - before
    calls = []
    for step in range(STEPS):
        before = time.perf_counter()
        tracker.log({"x": float(step)}, step)
        calls.append(time.perf_counter() - before)
        time.sleep(0.001)
    if kind == "dies":
        dead.set()
        tracker.log({"x": -1.0}, STEPS)
    before = time.perf_counter()
    tracker.finish()
    calls.sort()
    print(
        json.dumps(
            {
                "said": said,
                "p99": calls[int(0.99 * len(calls))],
                "finish": time.perf_counter() - before,
                "start": started,
                "mode": wandb.mode,
                "sync_directory": str(wandb.sync_directory),
                "received": received,
                "end": time.time(),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
