"""A model hub on this machine: as much of the protocol as an upload needs."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """The server, with the files of each repository that was pushed."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        """Status with which it refuses everything; 0 accepts."""
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_POST(self) -> None:
        """Answer."""
        body = self._body()
        self.hub.tokens.add(self.headers.get("authorization") or "")
        answer = self.hub.answer(self.path, body) if not self.hub.refuse else {"error": "no"}
        data = json.dumps(answer).encode()
        self.send_response(self.hub.refuse or 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

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

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""
