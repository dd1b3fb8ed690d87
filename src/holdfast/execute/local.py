"""Runs jobs on this machine: a detached process per job works off its list, and outlives the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from holdfast.core import files
from holdfast.core.job import Job
from holdfast.core.process import ATTEMPT_VARIABLE
from holdfast.execute.submit import PROGRAM

START_SECONDS = 30.0


class LocalExecutor:
    """Starts the frozen supervisor in a session of its own, with the environment of the submitter."""

    def start(self, directory: Path, job: Job) -> None:
        environment = {name: value for name, value in os.environ.items() if name != ATTEMPT_VARIABLE}
        if job.max_parallel > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // job.max_parallel)))
        with open(directory / "runner.log", "ab") as log:
            runner = subprocess.Popen(
                [sys.executable, str(directory / PROGRAM), str(directory)],
                cwd=job.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _await_record(directory, runner)


def _await_record(directory: Path, runner: subprocess.Popen[bytes]) -> None:
    """Stay until the runner is on record: so long the submitter stands for the job, and gone it would count as dead."""
    deadline = time.monotonic() + START_SECONDS
    while not (directory / "runner.json").exists() and runner.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if runner.poll() is not None and not (directory / "runner.json").exists():
        # Or a submitter that waits for its own job would take itself for the proof that somebody is still at it.
        with contextlib.suppress(FileExistsError):
            files.create(directory / "ended.json", files.encode({"code": runner.returncode}))
