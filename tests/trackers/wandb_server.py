"""The part of a W&B server that a run needs, with a memory: runs, their history by line, resuming. No network."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Run:
    """What was received of one run; `lines` are history rows by their offset."""

    def __init__(self, name: str, display: str) -> None:
        self.name = name
        self.display = display
        self.lines: dict[int, dict[str, Any]] = {}
        self.config = "{}"
        self.summary = "{}"
        self.exit_code: int | None = None

    def history(self) -> list[dict[str, Any]]:
        return [self.lines[offset] for offset in sorted(self.lines)]

    def details(self) -> dict[str, Any]:
        """As the public API gives it."""
        last = max((row["_step"] for row in self.lines.values()), default=-1)
        return {
            **self.bucket(),
            "state": "finished",
            "user": {"name": "S", "username": "somebody"},
            "historyKeys": {"lastStep": last},
        }

    def bucket(self) -> dict[str, Any]:
        tail = [json.dumps(row) for row in self.history()[-1:]]
        project = {"id": "p", "name": "holdfast", "entity": {"id": "e", "name": "somebody"}}
        return {
            "id": f"id-{self.name}",
            "name": self.name,
            "displayName": self.display,
            "description": None,
            "config": self.config,
            "sweepName": None,
            "tags": [],
            "project": project,
            "historyLineCount": len(self.lines),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "summaryMetrics": self.summary,
            "wandbConfig": '{"t": {}}',
        }


class WandbServer:
    """`with WandbServer() as server`: listens on a free port; `bodies` keeps all that was sent."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with outer.lock:
                    self.answer(outer.take(self.path, body))

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.answer({})

            def do_GET(self) -> None:
                self.answer({})

            def answer(self, content: dict[str, Any]) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client was killed
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.handler = Handler
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()

    def up(self) -> None:
        """Listen, on the same port as before."""
        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> WandbServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def take(self, path: str, body: bytes) -> dict[str, Any]:
        self.bodies.append(body)
        if not path.endswith(("/file_stream", "/graphql")):
            return {}
        content = json.loads(body)
        if path.endswith("/file_stream"):
            self.take_lines(self.runs[path.split("/")[-2]], content)
            return {}
        variables = content.get("variables") or {}
        return {"data": self.answer(content["query"], variables)}

    def take_lines(self, run: Run, content: dict[str, Any]) -> None:
        received = content.get("files") or {}
        history: dict[str, Any] = received.get("wandb-history.jsonl") or {"content": []}
        for number, line in enumerate(history["content"]):
            run.lines[history["offset"] + number] = json.loads(line)
        if "wandb-summary.json" in received:
            run.summary = received["wandb-summary.json"]["content"][-1]
        if content.get("complete"):
            run.exit_code = content.get("exitcode")

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            name = variables.get("name") or next(n for n, run in self.runs.items() if f"id-{n}" == variables["id"])
            inserted = name not in self.runs
            run = self.runs.setdefault(name, Run(name, variables.get("displayName") or name))
            run.config = variables.get("config") or run.config
            return {"upsertBucket": {"bucket": run.bucket(), "inserted": inserted}}
        if "createRunFiles" in query:
            found = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": found}}
        if "project(" in query:
            found_run = self.runs.get(variables["name"])
            return {"project": {"projectId": "p", "run": found_run.details() if found_run else None}}
        if "bucket(" in query:
            found_run = self.runs.get(variables.get("name") or variables.get("run") or "")
            return {"model": {"bucket": found_run.bucket() if found_run else None}}
        somebody = {"id": "v", "entity": "somebody", "username": "somebody", "email": "", "teams": {"edges": []}}
        return {"viewer": {**somebody, "flags": "{}"}, "serverInfo": None}
