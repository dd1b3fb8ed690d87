"""Runs jobs on this machine: a detached process per job works off its list, and outlives the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from holdfast.core.job import Job
from holdfast.core.process import ATTEMPT_VARIABLE
from holdfast.execute.submit import PROGRAM


class LocalExecutor:
    """Starts the frozen supervisor in a session of its own, with the environment of the submitter."""

    def start(self, directory: Path, job: Job) -> None:
        environment = {name: value for name, value in os.environ.items() if name != ATTEMPT_VARIABLE}
        if job.max_parallel > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // job.max_parallel)))
        with open(directory / "runner.log", "ab") as log:
            subprocess.Popen(
                [sys.executable, str(directory / PROGRAM), str(directory)],
                cwd=job.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
