"""Starts a Ray over the nodes of an allocation (head and workers by srun), runs a command beside the head, ends it.

The command gets `RAY_ADDRESS`. Ray itself is only started, never imported. Standard library only: the frozen supervisor
carries this file.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from holdfast.core.job import Job, Task
from holdfast.execute import diagnosis, launchers

START_SECONDS = 180.0
# Nodes of one test machine share its ports: each gets workers' ports of its own, of the range that is Ray's by default.
FIRST_PORT, PORTS_A_NODE, RANGES = 10_100, 800, 12
ALIVE = re.compile(r"^\s*1 node_\w+", re.MULTILINE)


class RayCluster:
    """The `srun` processes of one Ray; `ray` is the program, by its path in the target environment."""

    def __init__(self, job: Job, task: Task, ray: str, environ: Mapping[str, str]) -> None:
        self.job = job
        self.task = task
        self.ray = ray
        self.nodes = launchers.node_names(environ, task.nodes)
        self.address = f"{launchers.first_address(environ)}:{launchers.free_port()}"
        self.environment = {**environ, **authentication(environ)}
        self.temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it: their paths must be short
        self.started: list[subprocess.Popen[bytes]] = []
        self.said = ""

    def start(self) -> None:
        """Head and workers, until all have joined.

        Raises:
            RuntimeError: one ended, or not all joined in time.
        """
        for number, node in enumerate(self.nodes):
            self.started.append(self._start_node(number, node))
            if number == 0:
                self._await(1)
        self._await(len(self.nodes))

    def _start_node(self, number: int, node: str) -> subprocess.Popen[bytes]:
        first = FIRST_PORT + PORTS_A_NODE * (number % RANGES)
        tokens = [self.ray, "start", "--block", "--disable-usage-stats"]
        tokens += [f"--min-worker-port={first}", f"--max-worker-port={first + PORTS_A_NODE - 1}"]
        tokens += [f"--num-gpus={self.task.gpus}"] if self.task.gpus else []
        if number == 0:
            port = self.address.rpartition(":")[2]
            tokens += ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.temporary}"]
        else:
            tokens += [f"--address={self.address}"]
        # In a session of its own: what is sent to the command to make it save must not end the Ray.
        command = [*launchers.step(self.job, node=node), *tokens]
        return subprocess.Popen(command, env=self.environment, start_new_session=True)

    def _await(self, count: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._alive() < count:
            if any(process.poll() is not None for process in self.started):
                raise RuntimeError("ray: a node ended before all had joined")
            if time.monotonic() > deadline:
                joined = f"{self._alive()} of {count} nodes joined within {START_SECONDS:.0f} s"
                raise RuntimeError(f"ray: {joined}" + (f"; ray status: {self.said}" if self.said else ""))
            time.sleep(0.5)

    def _alive(self) -> int:
        tokens = [*launchers.step(self.job, node=self.nodes[0]), self.ray, "status", f"--address={self.address}"]
        done = subprocess.run(tokens, env=self.environment, capture_output=True, text=True)
        self.said = diagnosis.telling_line(done.stderr.encode()) if done.returncode else ""
        return len(ALIVE.findall(done.stdout.partition("Pending:")[0]))

    def end(self) -> None:
        """`ray stop` would end every Ray of the host: only what we started is ended."""
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        shutil.rmtree(self.temporary, ignore_errors=True)


def authentication(environ: Mapping[str, str]) -> dict[str, str]:
    """Who reaches a Ray can run code in it: each of ours has a token of its own, unless the user has settled that.

    Said in any case: `ray start` looks for a token in the home, and `ray status` and the script would not.
    """
    if "RAY_AUTH_MODE" in environ:
        return {}
    given = "RAY_AUTH_TOKEN" in environ or "RAY_AUTH_TOKEN_PATH" in environ
    return {"RAY_AUTH_MODE": "token", **({} if given else {"RAY_AUTH_TOKEN": secrets.token_hex(32)})}


def _program(command: Sequence[str]) -> str:
    """The `ray` beside the interpreter of the command, otherwise the one on PATH."""
    beside = Path(command[0]).with_name("ray")
    return str(beside) if beside.is_file() else "ray"


def main(directory: str, key: str, command: Sequence[str]) -> int:
    """Run `command` beside a Ray; its exit code."""
    job = Job.read(Path(directory))
    task = next(task for task in job.tasks if task.key == key)
    if not (os.environ.get("SLURM_JOB_ID") and shutil.which("srun")):
        return subprocess.call(command)  # on one machine a script starts its own Ray
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, _leave_it_to_the_command)
    cluster = RayCluster(job, task, _program(command), os.environ)
    failure = ""
    try:
        cluster.start()
        tokens = [*launchers.step(job, node=cluster.nodes[0]), *command]
        return subprocess.call(tokens, env={**cluster.environment, "RAY_ADDRESS": cluster.address})
    except RuntimeError as error:
        failure = str(error)
        return 1
    finally:
        cluster.end()
        if failure:  # after what srun says of the nodes that were ended: the last error in the log is the reason
            sys.stderr.write(f"error: {failure}\n")


def _leave_it_to_the_command(number: int, frame: FrameType | None) -> None:
    """The whole process group gets the signal; we stay until the command has ended, and end the Ray after it."""
