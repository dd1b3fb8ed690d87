"""Starts the trackers of an attempt beside its stage, and never lets one matter.

A tracker is a process of its own with a log of its own. That it cannot be started, fails, hangs or dies is written to
the log of the job; it is started again after a pause, and what it did not send is sent at the end, or later by
`holdfast track`. Standard library only: it is frozen with the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from holdfast.core import files
from holdfast.core.job import Job, Task
from holdfast.execute import diagnosis

TICK = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0
DRAIN = 15.0
"""Seconds for which the end of an attempt waits for trackers that were alive at the end of the work."""
SYNC = 30.0
"""Seconds that one more look may take when the attempt is on record; nobody waits for it but the job."""
USELESS = 2


@dataclass
class Sidecar:
    """One tracker of an attempt."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    pause: float = FIRST_PAUSE
    next: float = 0.0
    useless: bool = False


class Sidecars:
    """The trackers of one attempt. Only what runs long, and fills its home while it does, is followed."""

    def __init__(self, job: Job, task: Task, directory: Path, say: Callable[[str], None]) -> None:
        self.job = job
        self.task = task
        self.directory = directory
        self.say = say
        self.environment: Mapping[str, str] = {}
        self.all = [Sidecar(name) for name in task.trackers]
        self.following = False

    def start(self, environment: Mapping[str, str]) -> None:
        """Follow the stage from now on, if its kind writes its metrics where they stay."""
        self.environment = environment
        self.following = self.task.exclusive
        self.look()

    def look(self) -> None:
        """Note who ended, and start whose time has come."""
        if not self.following:
            return
        for each in self.all:
            if each.process and (code := each.process.poll()) is not None:
                self._note_end(each, code)
            if each.process is None and not each.useless and time.monotonic() >= each.next:
                each.process = self._start(each, "follow")

    def end(self, code: int, beat: Callable[[], None]) -> None:
        """Tell them that the work has ended, and how, and give them a moment to hand over the rest."""
        self.following = False
        running = [each for each in self.all if each.process]
        for each in running:
            self._tell(each, code)
        self._await(running, DRAIN, beat)

    def sync(self, go_on: Callable[[], bool]) -> None:
        """One more look for each: it sends what is missing, and ends at once where nothing is."""
        if not self.environment:
            return
        running = [each for each in self.all if not each.useless]
        for each in running:
            self._kill(each)
            each.process = self._start(each, "sync")

        def beat() -> None:
            if not go_on():
                for each in running:
                    self._kill(each)

        self._await(running, SYNC, beat)

    def _await(self, running: list[Sidecar], seconds: float, beat: Callable[[], None]) -> None:
        deadline = time.monotonic() + seconds
        while any(each.process and each.process.poll() is None for each in running) and time.monotonic() < deadline:
            beat()
            time.sleep(TICK)
        for each in running:
            code = each.process.poll() if each.process else 0
            if code is None:
                self.say(f"{self.task.name}: tracker {each.name} needed more than {seconds:.0f} s; the rest is owed")
                # It would not do better a moment later: `holdfast track` sends the rest.
                each.useless = True
            elif code:
                self._note_end(each, code)
            self._kill(each)

    def _note_end(self, each: Sidecar, code: int) -> None:
        """A tracker that has nothing to do here (not installed, switched off) says so with exit code 2."""
        told = diagnosis.telling_line(files.read_tail(self._log(each)))
        self.say(f"{self.task.name}: tracker {each.name} ended: {told} ({diagnosis.exit_words(code)})")
        self._kill(each)
        each.useless = each.useless or code == USELESS
        each.next = time.monotonic() + each.pause
        each.pause = min(2 * each.pause, LONGEST_PAUSE)

    def _start(self, each: Sidecar, verb: str) -> subprocess.Popen[bytes] | None:
        command = [*self.job.python, "-m", "holdfast.trackers", verb, each.name, self.task.key]
        try:
            with open(self._log(each), "ab") as log:
                return subprocess.Popen(
                    command,
                    cwd=self.job.cwd,
                    env=dict(self.environment),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self.say(f"{self.task.name}: tracker {each.name} could not be started: {error}")
            each.next = time.monotonic() + each.pause
            return None

    def _log(self, each: Sidecar) -> Path:
        return self.directory / f"tracker-{files.safe_name(each.name)}.log"

    def _tell(self, each: Sidecar, code: int) -> None:
        pipe = each.process.stdin if each.process else None
        if pipe:
            with contextlib.suppress(OSError):
                pipe.write(b"%d\n" % code)
                pipe.close()

    def _kill(self, each: Sidecar) -> None:
        """End it with what it started."""
        if each.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(each.process.pid, signal.SIGKILL)
            if each.process.stdin:
                with contextlib.suppress(OSError):
                    each.process.stdin.close()
            each.process.wait()
        each.process = None
