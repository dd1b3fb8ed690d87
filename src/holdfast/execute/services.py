"""Servers that must be up while a stage runs: started, waited for, watched, ended.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import errno
import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import files, process
from holdfast.execute import diagnosis
from holdfast.execute.heartbeat import Interrupted
from holdfast.execute.launchers import Spot, free_port

TICK = 0.1
STARTS = 3

Start = Callable[[Sequence[str], Mapping[str, str], Path], subprocess.Popen[bytes]]
"""Starts a command with these variables more than the stage has, printing to this file."""


@dataclass
class _Server:
    """One that was started; `port` is the newest that it was given."""

    service: Mapping[str, Any]
    spot: Spot
    log: Path
    process: subprocess.Popen[bytes]
    port: int


class Services:
    """The servers of one attempt."""

    def __init__(self) -> None:
        self.running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self,
        wanted: Iterable[Mapping[str, Any]],
        directory: Path,
        start: Start,
        keep: Callable[[], None],
        spots: Sequence[Spot] = (Spot(),),
    ) -> dict[str, str]:
        """Start each service on each spot and wait until it answers; returns the variables that tell the stage where
        they are, the addresses of one service with spaces between them.

        `keep` is called meanwhile, many times a second.

        Raises:
            Interrupted: one ended, or did not answer in time.
        """
        endpoints = {}
        for service in wanted:
            name = service["name"]
            logs = [directory / f"service-{name}{f'-{number}' if number else ''}.log" for number in range(len(spots))]
            servers = [_launch(service, spot, log, start) for spot, log in zip(spots, logs, strict=True)]
            for server in servers:
                self._await(server, start, keep)
            urls = [f"http://{server.spot.host}:{server.port}" for server in servers]
            endpoints[f"HOLDFAST_SERVICE_{name.upper()}"] = " ".join(urls)
        return endpoints

    def _await(self, server: _Server, start: Start, keep: Callable[[], None]) -> None:
        """Wait until a server answers; one that ended is started again at another port."""
        name = server.service["name"]
        code: int | None = None
        for last in range(STARTS):
            code = _await_answer(server, keep)
            if code is None:
                self.running.append((name, server.process))
                return
            if last < STARTS - 1:
                again = _launch(server.service, server.spot, server.log, start)
                server.process, server.port = again.process, again.port
        told = diagnosis.telling_line(files.read_tail(server.log))
        raise Interrupted("failed", f"service {name} did not start: {told} ({diagnosis.exit_words(code or 0)})")

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


def _launch(service: Mapping[str, Any], spot: Spot, log: Path, start: Start) -> _Server:
    port = service.get("port") or free_port()
    if service.get("port") and not _is_free(spot.host, port):
        raise Interrupted("failed", f"service {service['name']} cannot have port {port} of {spot.host}: it is taken")
    said = {"{port}": str(port), "{host}": spot.host}
    command = [_filled(token, said) for token in service["command"]]
    return _Server(service, spot, log, start([*spot.prefix, *command], service["env"], log), port)


def _filled(token: str, said: Mapping[str, str]) -> str:
    for mark, value in said.items():
        token = token.replace(mark, value)
    return token


def _await_answer(server: _Server, keep: Callable[[], None]) -> int | None:
    """None once it answers; its exit code if it ended first (another process may have taken the port)."""
    service = server.service
    deadline = time.monotonic() + service["timeout"]
    while time.monotonic() < deadline:
        if (code := server.process.poll()) is not None:
            return code
        if _answers(server.spot.host, server.port, service["ready"]):
            return None
        keep()
        time.sleep(TICK)
    told = diagnosis.telling_line(files.read_tail(server.log))
    says = f"service {service['name']} did not answer {service['ready']} within {service['timeout']:.0f} s"
    raise Interrupted("failed", f"{says}; its last line: {told}" if told else f"{says}, and printed nothing")


def _is_free(host: str, port: int) -> bool:
    """Whether nobody listens there; what only lingers from an earlier server is no hindrance to servers."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            # An address of another node cannot be looked at from here.
            return error.errno != errno.EADDRINUSE
    return True


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
