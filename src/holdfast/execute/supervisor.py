"""Supervises one stage of a job: claims it, runs it, keeps the claim alive, ends what is left, has it published.

Frozen into the job's directory together with the parts of core that it needs (`freeze.py`), so that what waits in a
queue does not change when the package does. Standard library only; it reaches stages by starting `python -m
holdfast.stages`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from holdfast.core import artifact, attempt, files, process
from holdfast.core.attempt import Claim
from holdfast.core.errors import Held, UserError
from holdfast.core.job import Job, Task, stop_reason
from holdfast.execute import diagnosis, outsiders, slots
from holdfast.execute.heartbeat import Ending, Heartbeat, Interrupted
from holdfast.execute.sidecars import Sidecars

DONE, FAILED, STOPPED, HELD, NO_SLOT = 0, 1, 3, 4, 75
TICK = 0.1
LOOK = 1.0
SERVICE_STARTS = 3
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
        self.asked = ""
        self.memory_kills = process.memory_kills()
        self.services: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Do the stage unless it is complete or somebody has it; the exit code says which."""
        if artifact.holds(self.home, self.task.key):
            return DONE
        held = slots.acquire(self.task.gpus, self.token) if self.task.gpus else {}
        if held is None:
            return NO_SLOT
        try:
            return self._run_with(list(held))
        finally:
            slots.release(held)

    def _run_with(self, devices: list[str]) -> int:
        self._trap_signals()
        process.become_subreaper()
        try:
            claim = self._take()
        except Held as error:
            say(f"{self.task.name}: {error}")
            return HELD
        self.trackers = Sidecars(self.job, self.task, claim.directory, say)
        ending = self._attempt(claim, devices)
        say(f"{self.task.name}: attempt {claim.n}: {ending.outcome} {ending.reason}".rstrip())
        try:
            attempt.end(claim, ending.outcome, ending.reason, code=ending.code)
        except OSError as error:
            say(f"{self.task.name}: attempt {claim.n}: could not write its exit record: {error}")
            return FAILED
        if ending.outcome != "taken over":
            self.trackers.sync(lambda: not self.asked)
        return {"complete": DONE, "stopped": STOPPED, "cancelled": STOPPED}.get(ending.outcome, FAILED)

    def _take(self) -> Claim:
        """The claim to the stage, unless its place in the queue was taken by a later job."""
        place = attempt.newest(self.stage / "queued")
        if place and place.job != self.job.token:
            raise Held(f"job {place.job} took its place in the queue")
        return attempt.take(
            self.stage / "attempts",
            self.job.token,
            exclusive=self.task.exclusive,
            silence=self.job.silence,
            token=self.token,
        )

    def _attempt(self, claim: Claim, devices: list[str]) -> Ending:
        if artifact.holds(self.home, self.task.key):
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
        if self.task.stop_after is not None:
            own["HOLDFAST_STOP_AFTER"] = str(self.task.stop_after)
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        return {**os.environ, **self.task.env, **own}

    def _run_child(self, claim: Claim, beat: Heartbeat, environment: dict[str, str], out: Path) -> Ending:
        command = self.task.command or (*self.job.python, "-m", "holdfast.stages", "run", self.task.key)
        self.child = self._start(command, environment, claim.output)
        self.trackers.start(environment)
        code = self._wait(self.child, claim, beat)
        if code != 0:
            self._check_services()
        self._end_services()
        self.trackers.end(code if self.task.command or code != STOPPED else 0, beat.renew)
        left = self._end_all(5.0)
        if self.asked:
            # Also after exit code 0: a program that saves and leaves when it is told to has not finished its work.
            result = _result(claim)
            return Ending("cancelled", result["reason"] if result else self.asked, code)
        if code != 0:
            return self._explain(claim, code)
        return self._publish(claim, beat, environment, left)

    def _explain(self, claim: Claim, code: int) -> Ending:
        result = _result(claim)
        if result:
            return Ending(result["outcome"], result["reason"], code)
        told = diagnosis.telling_line(files.read_tail(claim.output))
        words = self._exit_words(code)
        return Ending("failed", f"{told} ({words})" if told else words, code)

    def _exit_words(self, code: int) -> str:
        """How a process ended, and what it cannot have said itself: that memory or disk ran out."""
        words = diagnosis.exit_words(code)
        if code == -signal.SIGKILL and process.memory_kills() > self.memory_kills:
            words += "; the kernel ended processes for lack of memory meanwhile"
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
        if left and result["outcome"] != "complete":
            result["reason"] += f"; {len(left)} processes that it left in the background were ended"
        return Ending(result["outcome"], result["reason"], 0)

    def _start(self, command: tuple[str, ...], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
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
        grace = self.job.grace if self.task.exclusive else 0.0
        patience = Patience(grace, ask_first=bool(self.task.command), save=outsiders.stop_signal(self.task))
        next_look = 0.0
        while (code := child.poll()) is None:
            beat.renew()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK
                self._look_for_stop()
                self._check_services()
                self.trackers.look()
                outsiders.note_progress(self.task, self.home, claim)
            if self.asked and stoppable:
                patience.press(child, claim)
            time.sleep(TICK)
        return code

    def _look_for_stop(self) -> None:
        self.asked = self.asked or stop_reason(self.directory, self.task.key) or ""

    def _check_services(self) -> None:
        for name, server in self.services:
            code = server.poll()
            if code is not None:
                raise Interrupted("failed", f"service {name} ended while it was needed: {self._exit_words(code)}")

    def _start_services(self, claim: Claim, beat: Heartbeat, environment: dict[str, str]) -> dict[str, str]:
        """Start each service and wait until it answers; returns the variables that tell the stage where they are."""
        endpoints = {}
        for service in self.task.services:
            port = self._start_service(service, claim, beat, environment)
            endpoints[f"HOLDFAST_SERVICE_{service['name'].upper()}"] = f"http://127.0.0.1:{port}"
        return endpoints

    def _start_service(self, service: Any, claim: Claim, beat: Heartbeat, environment: dict[str, str]) -> int:
        log = claim.directory / f"service-{service['name']}.log"
        code: int | None = None
        for _ in range(SERVICE_STARTS):
            port = _free_port()
            command = tuple(token.replace("{port}", str(port)) for token in service["command"])
            server = self._start(command, {**environment, **service["env"]}, log)
            code = self._await_service(server, port, service, beat)
            if code is None:
                self.services.append((service["name"], server))
                return port
        told = diagnosis.telling_line(files.read_tail(log))
        raise Interrupted("failed", f"service {service['name']} did not start: {told} ({self._exit_words(code or 0)})")

    def _await_service(self, server: subprocess.Popen[bytes], port: int, service: Any, beat: Heartbeat) -> int | None:
        """None once it answers; its exit code if it ended first (another process may have taken the port)."""
        deadline = time.monotonic() + service["timeout"]
        while time.monotonic() < deadline:
            if (code := server.poll()) is not None:
                return code
            if _answers(port, service["ready"]):
                return None
            beat.renew()
            self._look_for_stop()
            if self.asked:
                raise Interrupted("cancelled", self.asked)
            time.sleep(TICK)
        raise Interrupted(
            "failed", f"service {service['name']} did not answer {service['ready']} within {service['timeout']:.0f} s"
        )

    def _end_services(self) -> None:
        for _, server in self.services:
            process.send_signal(server.pid, signal.SIGTERM)
        self.services = []

    def _trap_signals(self) -> None:
        def ask(number: int, _: FrameType | None) -> None:
            self.asked = diagnosis.signal_words(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, ask)


class Patience:
    """Asks a child to end, then insists: the stop file, SIGTERM after `grace` seconds, SIGKILL five seconds later.

    A program that is not ours does not read the stop file: it is sent SIGTERM at once (`ask_first`) and has `grace`
    seconds. One that saves on a signal (`save`) is sent that first.
    """

    def __init__(self, grace: float, *, ask_first: bool, save: int = 0) -> None:
        ask_first = ask_first and not save
        last_word = grace if ask_first else grace + 5.0
        self.steps: list[tuple[float, Callable[[subprocess.Popen[bytes], Claim], None]]] = [
            (0.0, lambda _, claim: (claim.directory / "stop").touch()),
            *([(0.0, lambda child, _: _signal_group(child, save))] if save else []),
            (0.0 if ask_first else grace, lambda child, _: _signal_group(child, signal.SIGTERM)),
            (max(last_word, 5.0), lambda child, _: _signal_group(child, signal.SIGKILL)),
        ]
        self.started: float | None = None

    def press(self, child: subprocess.Popen[bytes], claim: Claim) -> None:
        """Take the steps that are due."""
        now = time.monotonic()
        self.started = now if self.started is None else self.started
        while self.steps and now - self.started >= self.steps[0][0]:
            self.steps.pop(0)[1](child, claim)


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


def _result(claim: Claim) -> dict[str, Any] | None:
    """What `holdfast.stages` said of this attempt."""
    return files.read_or_none(claim.directory / "result.json", "result")


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


def say(line: str) -> None:
    """Into the log of the job; a full disk must not end who looks after the work."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def main(directory: str, key: str, token: str = "") -> int:
    """Supervise the stage `key` of the job in `directory`. `token` is given by who started us with it in our
    environment.
    """
    job = Job.read(Path(directory))
    task = next(task for task in job.tasks if task.key == key)
    return Supervisor(Path(directory), job, task, token or files.new_token()).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
