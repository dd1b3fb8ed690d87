"""Supervises one stage of a job: claims it, runs it, keeps the claim alive, ends what is left, has it published.

Frozen into the job's directory together with the parts of core that it needs (`freeze.py`), so that what waits in a
queue does not change when the package does. Standard library only; it reaches stages by starting `python -m
holdfast.stages`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from holdfast.core import artifact, attempt, files, generations, process
from holdfast.core.attempt import Claim
from holdfast.core.errors import Held, UserError
from holdfast.core.job import Job, Task, stop_reason
from holdfast.execute import allocation, continuation, diagnosis, launchers, outsiders, slots
from holdfast.execute.heartbeat import Ending, Heartbeat, Interrupted
from holdfast.execute.patience import Patience
from holdfast.execute.services import Services
from holdfast.execute.sidecars import Sidecars

DONE, FAILED, STOPPED, HELD, NO_SLOT = 0, 1, 3, 4, 75
TICK = 0.1
LOOK = 1.0
DISK_LEFT = 65536


class Supervisor:
    """One attempt at one stage."""

    def __init__(self, directory: Path, job: Job, task: Task, token: str) -> None:
        self.directory = directory
        self.token = token
        self.job = job
        self.task = task
        self.root = Path(job.root)
        self.home = self.root / task.home
        self.stage = self.root / ".holdfast" / "stages" / task.key
        self.allocation = allocation.here() if job.executor == "slurm" else None
        self.asked = ""
        self.signals: set[int] = set()
        self.patience: tuple[str, Patience] | None = None
        self.memory_kills = process.memory_kills()
        self.services = Services()
        self.child: subprocess.Popen[bytes] | None = None
        self.claim: Claim | None = None
        self.goes_on = False

    def run(self) -> int:
        """Do the stage unless it is complete or somebody has it; the exit code says which."""
        if self._is_done():
            return DONE
        # A scheduler gives GPUs out itself, and numbers them anew in each allocation.
        held = slots.acquire(self.task.gpus, self.token) if self.task.gpus and not self.allocation else {}
        if held is None:
            return NO_SLOT
        try:
            return self._run_with(list(held))
        finally:
            slots.release(held)

    def _is_done(self) -> bool:
        replaced = self.task.replaces and generations.current(self.home) == self.task.replaces
        return not replaced and artifact.holds(self.home, self.task.key) is not None

    def _run_with(self, devices: list[str]) -> int:
        self._trap_signals()
        process.become_subreaper()
        try:
            claim = self._take()
        except Held as error:
            say(f"{self.task.name}: {error}")
            return HELD
        self.claim = claim
        self.trackers = Sidecars(self.job, self.task, claim.directory, say)
        ending = self._attempt(claim, devices)
        details, ending = self._what_follows(claim, ending)
        say(f"{self.task.name}: attempt {claim.n}: {ending.outcome} {ending.reason}".rstrip())
        try:
            attempt.end(claim, ending.outcome, ending.reason, code=ending.code, **details)
        except OSError as error:
            say(f"{self.task.name}: attempt {claim.n}: could not write its exit record: {error}")
            return FAILED
        if ending.outcome != "taken over":
            self.trackers.sync(lambda: not self.asked)
        if self.allocation and details.get("goes_on") and self._is_at_limit():
            refused = self.allocation.requeue()
            say(f"{self.task.name}: could not be requeued: {refused}")
            files.create(claim.refusal, files.encode({"reason": refused}))
        return {"complete": DONE, "stopped": STOPPED, "cancelled": STOPPED}.get(ending.outcome, FAILED)

    def _what_follows(self, claim: Claim, ending: Ending) -> tuple[dict[str, Any], Ending]:
        """For the exit record how far it came and whether it goes on, and the ending, with the reason if not."""
        if ending.outcome != "failed" or not self.task.retries or self.asked:
            return self._continuation(claim, ending) if self.allocation else ({}, ending)
        reached = continuation.reached(claim, self.home)
        refusal = continuation.no_other_try(self.job, self.task, claim, reached, ending, self.child is not None)
        if refusal:
            return {"reached": reached}, replace(ending, reason=f"{ending.reason}; not tried again: {refusal}")
        self.goes_on = True
        return {"reached": reached, "goes_on": True}, ending

    def wait_for_next_try(self) -> bool:
        """Pause before the next attempt; False if an end was asked for meanwhile, which is then on record."""
        assert self.claim is not None
        until = time.monotonic() + continuation.pause(self.claim, self.job)
        while time.monotonic() < until and not self.asked:
            self._look_for_stop()
            time.sleep(TICK)
        if self.asked:
            files.create(self.claim.refusal, files.encode({"reason": self.asked}))
        return not self.asked

    def _continuation(self, claim: Claim, ending: Ending) -> tuple[dict[str, Any], Ending]:
        """For the exit record how far it came and whether it goes on, and the ending, with the reason if not."""
        reached = continuation.reached(claim, self.home)
        if ending.outcome in ("stopped", "cancelled") and not self._is_at_limit():
            # Ended by the scheduler, for another job perhaps: then it starts us again by itself.
            by_scheduler = stop_reason(self.directory, self.task.key) is None
            return {"reached": reached, "goes_on": by_scheduler}, ending
        if ending.outcome != "stopped":
            return {"reached": reached}, ending
        seconds = time.time() - claim.started
        refusal = continuation.refusal(self.job, continuation.earlier(claim), claim, reached, seconds)
        if refusal:
            return {"reached": reached}, replace(ending, reason=f"{ending.reason}; {refusal}")
        return {"reached": reached, "goes_on": True}, ending

    def _is_at_limit(self) -> bool:
        """The scheduler warned of the time limit, and no person asked for an end."""
        warned = self.allocation is not None and signal.SIGUSR1 in self.signals
        return warned and stop_reason(self.directory, self.task.key) is None

    def _take(self) -> Claim:
        """The claim to the stage, unless its place in the queue was taken by a later job."""
        place = attempt.newest(self.stage / "queued")
        if place and place.job != self.job.token:
            raise Held(f"job {place.job} took its place in the queue")
        reason = stop_reason(self.directory, self.task.key) if self.allocation else None
        if place and reason:
            attempt.end(place, "dropped", f"not started: {reason}")
            raise Held(f"not started: {reason}")
        return attempt.take(
            self.stage / "attempts",
            self.job.token,
            exclusive=self.task.exclusive,
            silence=self.job.silence,
            token=self.token,
            allocation=self.allocation.name if self.allocation else "",
            restarts=self.allocation.restarts if self.allocation else 0,
        )

    def _attempt(self, claim: Claim, devices: list[str]) -> Ending:
        if self._is_done():
            return Ending("complete", "was complete already")
        beat = Heartbeat(claim, self.job.heartbeat)
        out = self.home if self.task.exclusive else self.home.with_name(f"{files.TEMPORARY}{claim.token}")
        try:
            self._check_inputs(claim)
            files.make_directories(out)
            outsiders.make_folders(self.task, out, claim)
            environment = self._environment(claim, out, devices)
            environment |= self._start_services(claim, beat, environment)
            return self._run_child(claim, beat, environment, out)
        except Interrupted as interruption:
            return interruption.ending
        except OSError as error:
            return Ending("failed", f"{error.strerror or error}: {error.filename or self.home}")
        except UserError as error:
            return Ending("failed", str(error))
        finally:
            self._end_all(2.0)
            if not self.task.exclusive:
                files.discard(out)

    def _start_services(self, claim: Claim, beat: Heartbeat, environment: dict[str, str]) -> dict[str, str]:
        def start(command: Sequence[str], extra: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
            return self._start(command, {**environment, **extra}, log)

        spots = launchers.spots(self.job, self.task, environment) if self.task.services else ()
        return self.services.start(self.task.services, claim.directory, start, lambda: self._keep_going(beat), spots)

    def _check_inputs(self, claim: Claim) -> None:
        """Every input is there with all its files, and which one it was goes on record."""
        digests = {}
        for need in self.task.needs:
            home = self.root / need["home"]
            manifest = artifact.holds(home, need["key"], need["path"])
            if manifest is None:
                raise Interrupted("failed", f"input {need['home']} is not complete: {home}")
            problems = artifact.verify(home, manifest, digests=False)
            if problems:
                raise Interrupted("failed", f"input {need['home']} is damaged: {'; '.join(problems[:3])}")
            digests[need["home"]] = manifest.digest
        files.replace(claim.directory / "inputs.json", files.encode({"digests": digests}))
        if changed := outsiders.changed_files(self.task, self.job.cwd):
            raise Interrupted("failed", changed)

    def _end_all(self, grace: float) -> list[int]:
        """End everything of this attempt but ourselves; returns what was still running."""
        me = os.getpid()
        return process.end_found(lambda: [*process.carriers_of(self.token, [me]), *process.descendants(me)], grace)

    def _environment(self, claim: Claim, out: Path, devices: list[str]) -> dict[str, str]:
        own = {
            process.ATTEMPT_VARIABLE: claim.token,
            "HOLDFAST_ATTEMPT_NUMBER": str(claim.n),
            "HOLDFAST_RECORD": str(claim.directory),
            "HOLDFAST_ROOT": str(self.root),
            "HOLDFAST_STAGE": self.task.key,
            "HOLDFAST_NAME": self.task.name,
            "HOLDFAST_OUT": str(out),
            "HOLDFAST_METRICS": str(out / "metrics.jsonl"),
        }
        if self.task.replaces:
            own["HOLDFAST_REPLACES"] = self.task.replaces
        if self.task.stop_after is not None:
            own["HOLDFAST_STOP_AFTER"] = str(self.task.stop_after)
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        return {**os.environ, **self.task.env, **own}

    def _run_child(self, claim: Claim, beat: Heartbeat, environment: dict[str, str], out: Path) -> Ending:
        command = self.task.command or (*self.job.python, "-m", "holdfast.stages", "run", self.task.key)
        if told := outsiders.resume_token(self.task, self.home, command):
            say(f"{self.task.name}: attempt {claim.n} goes on with {told}")
            command = (*command, told)
        wrapped = launchers.wrap(command, self.job, self.task, self.directory / "supervisor.pyz", environment)
        self.child = self._start(wrapped, environment, claim.output)
        self.trackers.start(environment)
        code = self._wait(self.child, claim, beat)
        outsiders.note_progress(self.task, self.home, claim)
        if code != 0:
            self.services.check(self._exit_words)
        self.services.end()
        self.trackers.end(code if self.task.command or code != STOPPED else 0, beat.renew)
        left = self._end_all(5.0)
        if self.asked and not (code == 0 and self._is_at_limit() and not self._was_signalled()):
            # Also after exit code 0: a program that saves and leaves when it is told to has not finished its work.
            result = _result(claim)
            outcome = "stopped" if self._is_at_limit() else "cancelled"
            became = self.patience[1].words(code) if self.patience else ""
            return Ending(outcome, result["reason"] if result else f"{self.asked}{became}", code)
        if code != 0:
            return self._explain(claim, code)
        return self._publish(claim, beat, environment, left)

    def _explain(self, claim: Claim, code: int) -> Ending:
        result = _result(claim)
        if result:
            return Ending(result["outcome"], result["reason"], code)
        told = diagnosis.telling_line(files.read_tail(claim.output))
        words = self._exit_words(code)
        if code < 0 and told:  # a signal came from outside: what it printed last is no reason, only where it was
            return Ending("failed", f"{words}; its last line: {told}", code)
        return Ending("failed", f"{told} ({words})" if told else words, code)

    def _exit_words(self, code: int) -> str:
        """How a process ended, and what it cannot have said itself: that memory or disk ran out."""
        words = diagnosis.exit_words(code)
        if code == -signal.SIGKILL:
            words += diagnosis.memory_words(self.memory_kills, process.memory_kills())
        disk = os.statvfs(self.root)
        if disk.f_bavail * disk.f_frsize < DISK_LEFT:
            words += f"; no space is left on the disk of {self.root}"
        return words

    def _publish(self, claim: Claim, beat: Heartbeat, environment: dict[str, str], left: list[int]) -> Ending:
        """Have the submitter's interpreter judge whether the stage is done, and publish it."""
        beat.check()
        command = (*self.job.python, "-m", "holdfast.stages", "finish", self.task.key)
        judge = self._start(command, environment, claim.output)
        code = self._wait(judge, claim, beat, stoppable=False)
        result = _result(claim)
        if code != 0 or not result:
            return Ending("failed", f"could not publish: {self._explain(claim, code).reason}", code)
        if left:
            words = f"{len(left)} processes that it left in the background were ended"
            say(f"{self.task.name}: attempt {claim.n}: {words}")
            result["reason"] = "; ".join(filter(None, [result["reason"], words]))
        if result["outcome"] == "failed" and self._is_at_limit():
            return Ending("stopped", f"{self.asked}: {result['reason']}", 0)
        return Ending(result["outcome"], result["reason"], 0)

    def _start(self, command: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        with open(log, "ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.task.directory or self.job.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self, child: subprocess.Popen[bytes], claim: Claim, beat: Heartbeat, *, stoppable: bool = True) -> int:
        """Wait for a child, beating, looking for the word to stop, and watching the services."""
        next_look = 0.0
        while (code := child.poll()) is None:
            beat.renew()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK
                self._look_for_stop()
                self.services.check(self._exit_words)
                self.trackers.look()
                outsiders.note_progress(self.task, self.home, claim)
            if self.asked and stoppable:
                self._press(child, claim)
            time.sleep(TICK)
        return code

    def _press(self, child: subprocess.Popen[bytes], claim: Claim) -> None:
        """Ask the child to end; anew where something more urgent was heard meanwhile."""
        if self.patience is None or self.patience[0] != self.asked:
            self.patience = (self.asked, self._make_patience())
        self.patience[1].press(child, claim)

    def _make_patience(self) -> Patience:
        grace = self.job.grace if self.task.exclusive else 0.0
        if self.allocation and signal.SIGTERM in self.signals:
            grace = min(grace, self.allocation.kill_wait / 2)
        elif self.allocation and self._is_at_limit():
            # It would be ended at the limit anyway: whoever cannot save on request has half of the time that is left.
            return Patience(self.allocation.lead / 2, ask_first=False, save=outsiders.stop_signal(self.task))
        return Patience(grace, ask_first=bool(self.task.command), save=outsiders.stop_signal(self.task))

    def _was_signalled(self) -> bool:
        """Whether the child was sent a signal, and not just the word to stop, which few programs know."""
        return self.patience is not None and self.patience[1].taken > 1

    def _look_for_stop(self) -> None:
        self.asked = stop_reason(self.directory, self.task.key) or self.asked

    def _keep_going(self, beat: Heartbeat) -> None:
        """While a service starts: beat, and look for the word to stop."""
        beat.renew()
        self._look_for_stop()
        if self.asked:
            raise Interrupted("cancelled", self.asked)

    def _trap_signals(self) -> None:
        def ask(number: int, _: FrameType | None) -> None:
            self.signals.add(number)
            warned = number == signal.SIGUSR1 and self.allocation
            self.asked = "stopped before its time limit" if warned else diagnosis.signal_words(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, ask)


def _result(claim: Claim) -> dict[str, Any] | None:
    """What `holdfast.stages` said of this attempt."""
    return files.read_or_none(claim.directory / "result.json", "result")


def say(line: str) -> None:
    """Into the log of the job; a full disk must not end who looks after the work."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def main(directory: str, key: str, token: str = "") -> int:
    """Supervise the stage `key` of the job in `directory`. `token` is given by who started us with it in our
    environment.
    """
    job = Job.read(Path(directory))
    if not token:
        _begin_anew(directory, key)
    task = next(task for task in job.tasks if task.key == key)
    supervisor = Supervisor(Path(directory), job, task, token)
    code = supervisor.run()
    if supervisor.goes_on and supervisor.wait_for_next_try():
        _begin_anew(directory, key)
    return code


def _begin_anew(directory: str, key: str) -> NoReturn:
    """As the runner does it: from its first moment on the process carries the token of its attempt."""
    token = files.new_token()
    environment = {**os.environ, process.ATTEMPT_VARIABLE: token}
    os.execve(sys.executable, [sys.executable, sys.argv[0], directory, key, token], environment)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
