"""Works off a job: starts a supervisor for each stage whose inputs are there, a few at a time, until nothing is left
to do.

The stages' supervisors are processes of their own: when the runner is killed they finish what they have begun, and what
still waited is owed again. Standard library only: it is the entry point of the frozen `supervisor.pyz`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from holdfast.core import artifact, attempt, files, process
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.job import Job, Task, stop_reason
from holdfast.core.plan import IN_FLIGHT, Reader
from holdfast.core.process import ATTEMPT_VARIABLE
from holdfast.core.store import Store
from holdfast.execute import diagnosis, ray_cluster, slots, supervisor
from holdfast.execute.supervisor import say

TICK = 0.1
LOOK = 1.0


class Runner:
    """The list of one job: `pending` in order, `running` by key."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.directory = directory
        self.program = program
        self.job = Job.read(directory)
        self.store = Store(Path(self.job.root))
        self.pending = list(self.job.tasks)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.results: dict[str, int] = {}
        self.made_anew = {task.key for task in self.job.tasks if task.replaces}
        self.asked = 0
        self.told = 0

    def run(self) -> int:
        """Work off the list; 0 if every stage is done."""
        self._trap_signals()
        next_look = 0.0
        while self.pending or self.running:
            self._pass_on_signal()
            ended = self._reap()
            if ended or time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK
                self._drop_stopped()
                self._start_ready()
            time.sleep(TICK)
        return 0 if all(code == supervisor.DONE for code in self.results.values()) else 1

    def _reap(self) -> bool:
        ended = {key: code for key, child in self.running.items() if (code := child.poll()) is not None}
        for key, code in ended.items():
            del self.running[key]
            if code == supervisor.NO_SLOT:
                self.pending.insert(0, next(task for task in self.job.tasks if task.key == key))
            else:
                self.results[key] = code
                if code != supervisor.DONE:
                    words = diagnosis.exit_words(code)
                    reason = f"failed before it began: {words}, see runner.log of its job"
                    self._give_back(key, "failed", reason, code=code)
        return bool(ended)

    def _drop_stopped(self) -> None:
        for task in list(self.pending):
            reason = diagnosis.signal_words(self.asked) if self.asked else stop_reason(self.directory, task.key)
            if reason:
                self._drop(task, reason)

    def _drop(self, task: Task, why: str) -> None:
        say(f"{task.name}: not started: {why}")
        self.pending.remove(task)
        self.results[task.key] = supervisor.STOPPED
        self._give_back(task.key, "dropped", f"not started: {why}")

    def _give_back(self, key: str, outcome: str, reason: str, code: int | None = None) -> None:
        """End our place in the queue of a stage, unless it became an attempt: nobody need wait for this job to end."""
        try:
            place = attempt.newest(self.store.queued(key))
            last = attempt.newest(self.store.attempts(key))
            if place and place.job == self.job.token and not (last and last.job == self.job.token):
                attempt.end(place, outcome, reason, code=code)
        except (OSError, DamagedFile, UnreadableFile) as error:
            say(f"{key[:12]}: could not give back its place: {error}")

    def _start_ready(self) -> None:
        free = slots.free() if any(task.gpus for task in self.pending) else 0
        for task in list(self.pending):
            if len(self.running) >= self.job.max_parallel:
                return
            if task.gpus > free:
                continue
            waits = [need for need in task.needs if not self._is_there(need)]
            if not waits:
                free -= task.gpus
                self._start(task)
            elif not all(self._will_come(need) for need in waits):
                self._drop(task, f"its input {waits[0]['home']} is not complete, and nobody is at it")

    def _start(self, task: Task) -> None:
        self.pending.remove(task)
        # The supervisor carries the token of its attempt from its first moment, and so does a child that it has forked
        # but not yet given its program: whoever looks for what a dead supervisor left finds both.
        token = files.new_token()
        command = [sys.executable, str(self.program), str(self.directory), task.key, token]
        self.running[task.key] = subprocess.Popen(
            command, env={**os.environ, ATTEMPT_VARIABLE: token}, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _is_there(self, need: Mapping[str, str]) -> bool:
        if need["key"] in self.made_anew and self.results.get(need["key"]) != supervisor.DONE:
            return False
        return artifact.holds(Path(self.job.root) / need["home"], need["key"], need["path"]) is not None

    def _will_come(self, need: Mapping[str, str]) -> bool:
        """Whether this job, or another one, is still going to make it."""
        if need["key"] in self.running or any(task.key == need["key"] for task in self.pending):
            return True
        try:
            record = self.store.read(need["key"])
        except (FileNotFoundError, DamagedFile, UnreadableFile):
            return False
        standing = Reader(self.store).standing(record)
        return standing.state in IN_FLIGHT and (standing.claim is None or standing.claim.job != self.job.token)

    def _trap_signals(self) -> None:
        def ask(number: int, _: FrameType | None) -> None:
            self.asked = number

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, ask)

    def _pass_on_signal(self) -> None:
        """Here and not in the handler, which may run while a supervisor is being started and is not yet listed."""
        if self.asked and not self.told:
            self.told = self.asked
            for child in self.running.values():
                process.send_signal(child.pid, self.asked)


def work_off(directory: Path, program: Path) -> int:
    """Run the job in `directory`, once: a job that has a runner is left alone."""
    try:
        files.create(directory / "runner.json", files.encode({"owner": process.current().as_dict()}))
    except FileExistsError:
        print(f"{directory} is run by another process already", file=sys.stderr)
        return supervisor.HELD
    code = Runner(directory, program).run()
    files.create(directory / "ended.json", files.encode({"code": code}))
    return code


def main() -> int:
    """`supervisor.pyz JOB` works off a job, `supervisor.pyz JOB KEY [TOKEN]` supervises one stage of it.

    `supervisor.pyz --ray JOB KEY -- COMMAND` runs a command of that stage beside a Ray.
    """
    os.umask(0o002)
    if sys.argv[1:2] == ["--ray"]:
        return ray_cluster.main(sys.argv[2], sys.argv[3], sys.argv[5:])
    if len(sys.argv) not in (2, 3, 4):
        print("usage: python supervisor.pyz JOB_DIRECTORY [KEY]", file=sys.stderr)
        return 2
    if len(sys.argv) > 2:
        return supervisor.main(*sys.argv[1:])
    return work_off(Path(sys.argv[1]), Path(sys.argv[0]).absolute())


if __name__ == "__main__":
    sys.exit(main())
