"""A model hub on this machine: as much of the protocol as an upload needs."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests import loopback


class Hub(loopback.Server):
    """The server, with the files of each repository that was pushed."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        """Status with which it refuses everything; 0 accepts."""
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        super().__init__(handler)

    def answer(self, path: str, body: bytes) -> Any:
        """What the hub says to a request."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories[name] = asked
            return {"url": f"{self.url}/{name}", "name": name}
        if path.startswith("/api/validate-yaml"):
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            binary = (".onnx", ".safetensors", ".gif", ".mp4")
            modes = [("lfs" if f["path"].endswith(binary) else "regular") for f in files]
            return {
                "files": [
                    {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
                    for f, mode in zip(files, modes, strict=True)
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            href = {o["oid"]: f"{self.url}/objects/{o['oid']}" for o in objects}
            return {
                "transfer": "basic",
                "objects": [
                    {**o, "actions": {"upload": {"href": href[o["oid"]]}}} for o in objects
                ],
            }
        if path.startswith("/objects/"):
            self.objects[path.removeprefix("/objects/")] = body
            return {}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.objects[value["oid"]]
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            url = f"{self.url}/{name}/commit/{40 * '0'}"
            return {"commitUrl": url, "commitOid": "0" * 40, "success": True}
        return {}


class _Handler(loopback.Handler):
    hub: Hub

    def do_POST(self) -> None:
        """Answer."""
        body = self._body()
        self.hub.tokens.add(self.headers.get("authorization") or "")
        answer = self.hub.answer(self.path, body) if not self.hub.refuse else {"error": "no"}
        self.send_json(answer, self.hub.refuse or 200)

    do_GET = do_PUT = do_POST

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
