"""A command becomes a job of a cluster: what is sent, what is awaited, and what goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from vaerl.disk.errors import RunFailed
from vaerl.lab import ray_jobs


class Head:
    """The head of a cluster on loopback that runs nothing; its job ends at the third question."""

    def __init__(self, end: str) -> None:
        self.requests: list[tuple[str, str, str | None, Any]] = []
        head, states = self, iter(["PENDING", "RUNNING", end])

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.answer({"submission_id": "job-1"})

            def do_GET(self) -> None:
                logs = self.path.endswith("/logs")
                self.answer({"logs": "all done"} if logs else {"status": next(states)})

            def answer(self, data: Any) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null"
                asked = (self.command, self.path, self.headers.get("Authorization"))
                head.requests.append((*asked, json.loads(body)))
                known = asked[2] == "Bearer secret"
                self.send_response(200 if known else 401)
                self.end_headers()
                self.wfile.write(json.dumps(data).encode() if known else b"who\nare you?")

            def log_message(self, *words: Any) -> None:
                """Print nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A token in the environment, and no waiting."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setattr(ray_jobs, "LOOK", 0.0)
    yield


def test_a_command_is_sent_and_awaited(
    token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs in the same folder, on the cluster; its output is printed."""
    monkeypatch.chdir(tmp_path)
    head = Head("SUCCEEDED")
    words = ["sweep", "sac", "--env", "Pendulum-v1", "--ray-address", head.address, "--jobs", "9"]
    ray_jobs.send(head.address, words)
    first, *others = head.requests
    command = "vaerl sweep sac --env Pendulum-v1 --jobs 9 --ray-address auto"
    entry = {"entrypoint": f"cd {tmp_path} && {command}"}
    assert first == ("POST", "/api/jobs/", "Bearer secret", entry)
    status = ("GET", "/api/jobs/job-1", "Bearer secret", None)
    assert others == [*[status] * 3, ("GET", "/api/jobs/job-1/logs", "Bearer secret", None)]
    assert "all done" in capsys.readouterr().out
    head.server.shutdown()


def test_a_job_that_fails_is_an_error(token: None) -> None:
    head = Head("FAILED")
    with pytest.raises(RunFailed, match=r"^job job-1: FAILED$"):
        ray_jobs.send(head.address, ["sweep", "spec.toml"])
    head.server.shutdown()


def test_a_head_that_refuses_or_is_away_is_one_line(
    token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address, the code and its words."""
    head = Head("SUCCEEDED")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "other")
    with pytest.raises(RunFailed, match=r"^http://127.*/api/jobs/: 401: who are you\?$"):
        ray_jobs.send(head.address, ["sweep", "spec.toml"])
    head.server.shutdown()
    head.server.server_close()
    with pytest.raises(RunFailed, match=r"^http://127.*/api/jobs/: "):
        ray_jobs.send(head.address, ["sweep", "spec.toml"])
