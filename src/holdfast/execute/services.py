"""Servers that must be up while a stage runs: started, waited for, watched, ended.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.core import files, process
from holdfast.execute import diagnosis
from holdfast.execute.heartbeat import Interrupted

TICK = 0.1
STARTS = 3

Start = Callable[[Sequence[str], Mapping[str, str], Path], subprocess.Popen[bytes]]
"""Starts a command with these variables more than the stage has, printing to this file."""


class Services:
    """The servers of one attempt."""

    def __init__(self) -> None:
        self.running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self, wanted: Iterable[Mapping[str, Any]], directory: Path, start: Start, keep: Callable[[], None]
    ) -> dict[str, str]:
        """Start each service and wait until it answers; returns the variables that tell the stage where they are.

        `keep` is called meanwhile, many times a second.

        Raises:
            Interrupted: one ended, or did not answer in time.
        """
        endpoints = {}
        for service in wanted:
            port = self._start_one(service, directory / f"service-{service['name']}.log", start, keep)
            endpoints[f"HOLDFAST_SERVICE_{service['name'].upper()}"] = f"http://127.0.0.1:{port}"
        return endpoints

    def _start_one(self, service: Mapping[str, Any], log: Path, start: Start, keep: Callable[[], None]) -> int:
        code: int | None = None
        for _ in range(STARTS):
            port = _free_port()
            command = [token.replace("{port}", str(port)) for token in service["command"]]
            server = start(command, service["env"], log)
            code = _await_answer(server, port, service, keep)
            if code is None:
                self.running.append((service["name"], server))
                return port
        told = diagnosis.telling_line(files.read_tail(log))
        raise Interrupted(
            "failed", f"service {service['name']} did not start: {told} ({diagnosis.exit_words(code or 0)})"
        )

    def check(self, words: Callable[[int], str]) -> None:
        """Whether all still run; `words` says how one ended.

        Raises:
            Interrupted: one does not.
        """
        for name, server in self.running:
            code = server.poll()
            if code is not None:
                raise Interrupted("failed", f"service {name} ended while it was needed: {words(code)}")

    def end(self) -> None:
        """Ask all to end."""
        for _, server in self.running:
            process.send_signal(server.pid, signal.SIGTERM)
        self.running = []


def _await_answer(
    server: subprocess.Popen[bytes], port: int, service: Mapping[str, Any], keep: Callable[[], None]
) -> int | None:
    """None once it answers; its exit code if it ended first (another process may have taken the port)."""
    deadline = time.monotonic() + service["timeout"]
    while time.monotonic() < deadline:
        if (code := server.poll()) is not None:
            return code
        if _answers(port, service["ready"]):
            return None
        keep()
        time.sleep(TICK)
    raise Interrupted(
        "failed", f"service {service['name']} did not answer {service['ready']} within {service['timeout']:.0f} s"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
