"""Grades in processes that can be killed.

What a model wrote can make any parser hang, in C where no signal handler runs, crash, or eat memory. So every grading
happens in a worker with a deadline: it is killed and replaced, the grading fails with its type, and nothing else is
lost. A grading that failed is never a reward of 0: that would be the model's score for a fault of ours.

Workers are programs, started by exec, that speak lines of JSON: nothing is pickled, and nothing that this process holds
(threads, locks, CUDA) is forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from types import TracebackType
from typing import Any

from holdfast.core.errors import HoldfastError, UserError
from holdfast.verifiers import Grade

LONGEST_LINE = 1 << 26
TAIL = 2000
"""Bytes kept of what a worker says on stderr, for the error that tells of its end."""


class ScorerError(HoldfastError):
    """No grade: the verifier raised, or its process ended. `kind` is the reason as rows and tables name it."""

    kind = "scorer_error"


class ScorerTimeout(ScorerError):
    """No grade within the deadline; the process was killed."""

    kind = "scorer_timeout"


class VerifierPool:
    """`workers` processes that grade with the verifier `name`. Use it as an async context manager.

    deadline: seconds for one grading. recycle: gradings after which a worker is replaced (parsers leak). memory: bytes
    of data that one may hold. start: seconds for a worker to come up, imports included.
    """

    def __init__(
        self,
        name: str,
        workers: int = 2,
        deadline: float = 30.0,
        *,
        recycle: int = 2000,
        memory: int = 4 << 30,
        start: float = 120.0,
    ) -> None:
        self.name, self.deadline, self.recycle, self.start_deadline = name, deadline, recycle, start
        self._arguments = [name, "--deadline", str(deadline), "--memory", str(memory)]
        self._slots = [_Slot() for _ in range(workers)]
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self._open = False

    async def __aenter__(self) -> VerifierPool:
        """
        Raises:
            UserError: there is no such verifier, or a library that it needs is missing.
            ScorerError: a worker does not come up.
        """
        for slot in reversed(self._slots):
            self._free.put_nowait(slot)
        try:
            # One is proof enough that the others can be had; they start when they are needed.
            await self._worker(self._slots[0])
        except BaseException:
            await self._close()
            raise
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(slot.worker.kill() for slot in self._slots if slot.worker and slot.worker.is_alive))
        for slot in self._slots:
            slot.worker = None

    async def grade(self, response: str, solution: Any) -> Grade:
        """What a response is worth.

        Raises:
            ScorerTimeout: not within the deadline.
            ScorerError: the verifier raised, or its process ended.
            UserError: the verifier is none any more.
        """
        if not self._open:
            raise RuntimeError("the pool is not open: use it as `async with VerifierPool(...) as pool`")
        slot = await self._free.get()
        try:
            worker = await self._worker(slot)
            try:
                reply = await worker.ask({"response": response, "solution": solution}, self.deadline)
            except BaseException:
                # Also when we are cancelled: its answer would be taken for that to the next question.
                slot.worker = None
                await worker.kill()
                raise
            if worker.asked >= self.recycle or reply.get("unsound"):
                slot.worker = None
                await worker.kill()
        finally:
            self._free.put_nowait(slot)
        if "error" in reply:
            raise ScorerError(f"verifier {self.name}: {reply['error']}")
        return Grade(float(reply["reward"]), reply["answer"])

    async def _worker(self, slot: _Slot) -> _Worker:
        if slot.worker is None or not slot.worker.is_alive:
            slot.worker = await _Worker.start(self._arguments, self.start_deadline)
        return slot.worker


class _Slot:
    """Room for one worker."""

    def __init__(self) -> None:
        self.worker: _Worker | None = None


class _Worker:
    """One process; it is asked one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.asked = 0
        self._said = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, arguments: list[str], deadline: float) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "holdfast.verifiers.worker", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            env=_environment(),
            start_new_session=True,
        )
        worker = cls(process)
        try:
            said = await worker._reply(deadline, "come up")
        except BaseException:
            await worker.kill()
            raise
        if "refused" in said:
            await worker.kill()
            raise UserError(said["refused"], said["hint"])
        return worker

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, question: dict[str, Any], deadline: float) -> dict[str, Any]:
        self.asked += 1
        line = json.dumps({"id": self.asked, **question}).encode() + b"\n"
        return await self._reply(deadline, "answer", line)

    async def _reply(self, deadline: float, what: str, line: bytes = b"") -> dict[str, Any]:
        try:
            said = await asyncio.wait_for(self._exchange(line), deadline)
        except TimeoutError:
            raise ScorerTimeout(f"the verifier did not {what} within {deadline:g} s, and was killed") from None
        if not said.endswith(b"\n"):
            raise ScorerError(await self._explain_end(what))
        reply: dict[str, Any] = json.loads(said)
        return reply

    async def _exchange(self, line: bytes) -> bytes:
        assert self.process.stdin and self.process.stdout
        # Who is gone does not read; what is to be said of that, the end of its output says.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.process.stdin.write(line)
            await self.process.stdin.drain()
        return await self.process.stdout.readline()

    async def _explain_end(self, what: str) -> str:
        await self.kill()
        code = self.process.returncode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        tail = " ".join(self._said.decode(errors="replace").split())[-400:]
        return f"the verifier's process ended {how} before it could {what}{': ' + tail if tail else ''}"

    async def _listen(self) -> None:
        assert self.process.stderr
        while chunk := await self.process.stderr.read(65536):
            self._said = (self._said + chunk)[-TAIL:]

    async def kill(self) -> None:
        """End it and all that it started, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        # What it started may have left its group, and hold the pipe.
        await asyncio.wait([self._listening], timeout=1.0)
        self._listening.cancel()


def _environment() -> dict[str, str]:
    """Ours; and what this process can import, a worker can, too."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
