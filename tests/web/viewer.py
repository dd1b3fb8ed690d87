"""Types `holdfast rollout view` in a process of its own, and asks its server as a browser would."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.runs import environment

from holdfast.cli import rollout_view


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


@dataclass
class Viewer:
    """A page that is served."""

    url: str
    process: subprocess.Popen[str]
    said: Path

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.url).query).get("token", [""])[0]

    def send(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request, its path as it is given; headers are named with `_` for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in given)
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def ask(self, path: str, **parameters: Any) -> Any:
        """What the API says, which must be no refusal."""
        found = self.send(f"/api/{path}?{urlencode(parameters)}")
        assert found.status == 200, found.body
        return found.content

    def wait(
        self, holds: Callable[[Any], bool], path: str = "summary", seconds: float = 30.0, **parameters: Any
    ) -> Any:
        """Ask until it is so."""
        ends = time.monotonic() + seconds
        while not holds(found := self.ask(path, **parameters)):
            assert time.monotonic() < ends, found
            time.sleep(0.05)
        return found

    def wait_for_rows(self, count: int) -> Any:
        """Until so many lines are rows and nothing is left to read."""
        return self.wait(lambda found: found["totals"]["rows"] == count and not found["state"]["reading"])


@contextlib.contextmanager
def viewing(what: str | Path, *options: str, root: Path, code: int = 0) -> Iterator[Viewer]:
    """A viewer on it, until the block ends; then Ctrl-C must end it with `code`."""
    said = root.parent / f"{root.name}.viewer.log"
    command = [sys.executable, __file__, "--root", str(root), str(what), "--no-browser", *options]
    if "--port" not in options:
        command += ["--port", "0"]
    env = environment(XDG_CACHE_HOME=str(root.parent / "cache"))
    with (
        open(said, "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env) as it,
    ):
        assert it.stdout is not None
        try:
            url = it.stdout.readline().strip()
            assert url.startswith("http://"), said.read_text()
            yield Viewer(url, it, said)
            it.send_signal(signal.SIGINT)
            assert it.wait(20) == code, said.read_text()
            assert "Traceback" not in said.read_text(), said.read_text()
        finally:
            if it.poll() is None:
                os.kill(it.pid, signal.SIGKILL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--root", type=Path)
    rollout_view.add_arguments(parser)
    try:
        sys.exit(rollout_view.run(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
