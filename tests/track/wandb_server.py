"""A server on this machine that speaks as much of W&B's protocol as runs with files need.

It keeps what real ones keep: for each run the lines of its history by their offset, its summary and
config, artifacts by name, alerts. A line at an offset replaces the line that was there, as in the
real file stream.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests import loopback


class Run:
    """What the server knows of one run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.history: dict[int, dict[str, Any]] = {}
        self.config: str = "{}"
        self.summary: str = "{}"
        self.fields: dict[str, Any] = {}
        self.begun = 0

    def bucket(self, name: str) -> dict[str, Any]:
        """The run as queries return it."""
        tail = [self.history[at] for at in sorted(self.history)[-1:]]
        return {
            "id": f"run-{self.number}",
            "name": name,
            "displayName": self.fields.get("displayName") or name,
            "config": self.config,
            "summaryMetrics": self.summary,
            "historyLineCount": len(self.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in tail]),
            "eventsTail": "[]",
            "tags": self.fields.get("tags") or [],
            "wandbConfig": '{"t": 1}',
            "project": {
                "id": "p",
                "name": "vaerl",
                "entity": {"id": "e", "name": "someone"},
            },
        }


class Wandb(loopback.Server):
    """The server and its runs by id."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.uploads: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"wandb": self})
        super().__init__(handler)

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of one GraphQL operation."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found[1] if found else ""
        if name == "UpsertBucket":
            return self._upsert(variables)
        if name == "RunResumeStatus":
            run = self.runs.get(variables["name"])
            bucket = None if run is None else run.bucket(variables["name"])
            model = {"id": "p", "name": "vaerl", "entity": {"id": "e", "name": "someone"}}
            return {"model": {**model, "bucket": bucket}}
        if name == "NotifyScriptableRunAlert":
            self.alerts.append(variables)
            return {"notifyScriptableRunAlert": {"success": True}}
        if name == "Viewer":
            viewer = {"id": "u", "entity": "someone", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer}
        self.unknown.append(name)
        raise KeyError(name)

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        run = self.runs.get(name)
        inserted = run is None
        if run is None:
            run = self.runs[name] = Run(len(self.runs))
        run.begun += 1
        run.fields |= {key: value for key, value in variables.items() if value is not None}
        run.config = variables.get("config") or run.config
        return {"upsertBucket": {"bucket": run.bucket(name), "inserted": inserted}}

    def stream(self, run_id: str, data: dict[str, Any]) -> None:
        """Lines of a run's files."""
        run = self.runs[run_id]
        for name, part in (data.get("files") or {}).items():
            for place, line in enumerate(part.get("content") or []):
                if name == "wandb-history.jsonl":
                    run.history[part["offset"] + place] = json.loads(line)
                elif name == "wandb-summary.json":
                    run.summary = line


class _Handler(loopback.Handler):
    wandb: Wandb

    def do_POST(self) -> None:
        """Answer queries, the file stream and uploads."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "gzip" in (self.headers.get("content-encoding") or ""):
            import gzip

            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path.startswith("/graphql"):
            asked = json.loads(body)
            try:
                answer = {"data": self.wandb.answer(asked["query"], asked.get("variables") or {})}
            except KeyError as error:
                answer = {"data": None, "errors": [{"message": f"not here: {error}"}]}
        elif found := re.search(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.wandb.stream(found[1], json.loads(body))
        elif self.path.startswith("/upload/"):
            self.wandb.uploads[self.path] = body
        self.send_json(answer)

    do_GET = do_PUT = do_POST
