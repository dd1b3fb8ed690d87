"""The loop: takes what is owed, has `work` done on it, many at a time, and records what comes.

It knows nothing of what a rollout is: `work` makes one, of one turn or of many, and says when it no longer needs the
engine. Owed work is taken one by one, so memory follows what is in flight and not what is owed. A failure of the
machinery is never a reward of zero: it is a row with its type, and the response stays owed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from holdfast.engines.completions import EngineError, Failure
from holdfast.rollouts.admission import Admission
from holdfast.rollouts.calls import Limits
from holdfast.rollouts.collection import Collection, Owed, Row, encode
from holdfast.rollouts.counts import Counts

TICK = 0.1
AHEAD = 64
"""Rollouts that may be graded or written while as many as allowed are with the engine, beyond as many again."""
HOPELESS = 256
"""Failures in a row, with no success between them, after which the rest is not tried."""

GIVEN_UP = frozenset({Failure.ENGINE_DOWN, Failure.STALLED})
"""Failures of one call that will be those of every other."""

Leave = Callable[[], None]
"""Says that a rollout needs the engine no longer; may be called more than once."""
Work = Callable[[Owed, Leave], Awaitable[Row]]


class Failed(Exception):
    """A rollout that came to nothing. `row` holds what there is of it, a response that could not be graded."""

    def __init__(self, kind: Failure, message: str, row: Row | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.row = row or {}


async def collect(
    owed: Iterable[Owed],
    work: Work,
    collection: Collection,
    counts: Counts,
    *,
    limits: Limits | None = None,
    trouble: Callable[[], EngineError | None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[Counts], object] = lambda counts: None,
    more: Mapping[str, Any] | None = None,
    admission: Admission | None = None,
) -> EngineError | None:
    """Have `work` done on all of `owed`; `counts` follow, and count what is durable. `more` goes into every row.
    `admission` says how many may be with the engine, at most as many as `limits` do.

    Ends early when told to stop: what is in flight has `grace` to end, and is owed otherwise. Returns the trouble that
    made it give up, if any.

    Raises:
        OSError: rows could not be written. What was acknowledged is there.
        Exception: whatever `work` raises that is neither `Failed` nor an `EngineError`.
    """
    chosen = limits or Limits()
    loop = _Loop(work, collection, counts, chosen, more or {}, admission or Admission(chosen.in_flight))
    return await loop.run(owed, trouble, should_stop, report)


class _Note(NamedTuple):
    """What is counted once a row is durable."""

    failure: Failure | None
    tokens: int
    was_retried: bool


class _Loop:
    def __init__(
        self,
        work: Work,
        collection: Collection,
        counts: Counts,
        limits: Limits,
        more: Mapping[str, Any],
        admission: Admission,
    ) -> None:
        self._work = work
        self._counts = counts
        self._limits = limits
        self._more = more
        self._admission = admission
        self._room = asyncio.Semaphore(2 * limits.in_flight + AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()
        self._with_engine: set[asyncio.Task[None]] = set()
        self._trouble: EngineError | None = None
        self._is_ending = False
        self._failures_in_a_row = 0
        events = asyncio.get_running_loop()
        self._writer = collection.writer(lambda tokens: events.call_soon_threadsafe(self._acknowledge, tokens))

    async def run(
        self,
        owed: Iterable[Owed],
        trouble: Callable[[], EngineError | None],
        should_stop: Callable[[], bool],
        report: Callable[[Counts], object],
    ) -> EngineError | None:
        """See `collect`."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(trouble, should_stop, report))
                await self._admit(owed, group, should_stop)
                while self._tasks:
                    task = next(iter(self._tasks))
                    await asyncio.wait([task])
                    self._tasks.discard(task)  # it may have been cancelled before it began
                watch.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await asyncio.to_thread(self._writer.close)
        self._counts.tick()
        report(self._counts)
        return self._trouble

    async def _admit(self, owed: Iterable[Owed], group: asyncio.TaskGroup, should_stop: Callable[[], bool]) -> None:
        for item in owed:
            await self._room.acquire()
            await self._admission.enter()
            self._is_ending = self._is_ending or should_stop()
            if self._is_ending:
                return
            self._tasks.add(group.create_task(self._one(item), name="rollout"))

    async def _one(self, item: Owed) -> None:
        task = asyncio.current_task()
        assert task is not None
        leave = self._make_leave(task)
        started = time.time()
        row: Row
        try:
            row = await self._work(item, leave)
        except (Failed, EngineError) as error:
            row = _failure(item, error)
            if isinstance(error, EngineError) and error.kind in GIVEN_UP:
                self._trouble, self._is_ending = self._trouble or error, True
        except asyncio.CancelledError:
            if self._trouble is None:
                self._room.release()
                raise
            row = _failure(item, self._trouble)
        finally:
            leave()
            self._tasks.discard(task)
        row["timing"] = {"started": started, "finished": time.time(), **row.get("timing", {})}
        self._writer.put(encode({**row, **self._more}), self._judge(row))

    def _make_leave(self, task: asyncio.Task[None]) -> Leave:
        self._with_engine.add(task)
        self._counts.in_flight = len(self._with_engine)
        return partial(self._leave, task)

    def _leave(self, task: asyncio.Task[None]) -> None:
        if task in self._with_engine:
            self._with_engine.remove(task)
            self._counts.in_flight = len(self._with_engine)
            self._admission.leave()

    def _judge(self, row: Row) -> _Note:
        kind = Failure(row["error"]["type"]) if "error" in row else None
        self._failures_in_a_row = self._failures_in_a_row + 1 if kind else 0
        if kind and not self._counts.first_failure:
            self._counts.first_failure = f"{kind}: {row['error']['message']}"
        if kind and self._failures_in_a_row >= max(HOPELESS, 2 * self._limits.in_flight) and not self._trouble:
            words = f"{self._failures_in_a_row} failures in a row, the last: {row['error']['message']}"
            self._trouble, self._is_ending = EngineError(kind, words), True
        return _Note(kind, int(row.get("usage", {}).get("completion_tokens", 0)), row.get("tries", 1) > 1)

    def _acknowledge(self, notes: Sequence[_Note]) -> None:
        for kind, tokens, was_retried in notes:
            self._room.release()
            self._counts.tokens += tokens
            self._counts.retried += was_retried
            if kind is None:
                self._counts.done += 1
            else:
                self._counts.failed[kind] += 1

    async def _watch(
        self,
        trouble: Callable[[], EngineError | None],
        should_stop: Callable[[], bool],
        report: Callable[[Counts], object],
    ) -> None:
        """Several times a second: report, and see whether to end. What the engine has answered gets a grace more."""
        ends_at = float("inf")
        while True:
            await asyncio.sleep(TICK)
            self._counts.tick()
            report(self._counts)
            if self._writer.error is not None:
                raise self._writer.error
            self._trouble = self._trouble or trouble()
            self._is_ending = self._is_ending or self._trouble is not None or should_stop()
            now = time.monotonic()
            if self._is_ending:
                ends_at = min(ends_at, now if self._trouble else now + self._limits.grace)
            if now >= ends_at:
                for task in self._tasks if now >= ends_at + self._limits.grace else self._with_engine:
                    task.cancel()


def _failure(item: Owed, error: Failed | EngineError) -> Row:
    partial = error.row if isinstance(error, Failed) else {}
    reason = {"type": str(error.kind), "message": str(error)}
    return {"id": item.sample.id, "repeat": item.sample.repeat, **partial, "error": reason}
