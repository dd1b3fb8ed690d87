"""Asks for what is owed: many requests in flight, a deadline for each, a bounded number of tries.

A failure of the machinery is never a reward of zero. It is recorded with its type, and the response stays owed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from holdfast.engines.completions import Completion, EngineError
from holdfast.rollouts.collection import Row, Sample

Ask = Callable[[Sample], Awaitable[Completion]]


@dataclass(frozen=True)
class Limits:
    """`deadline` is for one request, in seconds; between tries the wait doubles from `backoff`."""

    in_flight: int = 32
    deadline: float = 120.0
    tries: int = 3
    backoff: float = 0.5


@dataclass(frozen=True)
class Answer:
    """What became of one sample: a completion, or the error of the last try."""

    sample: Sample
    started: float
    finished: float
    completion: Completion | None
    error: EngineError | None = None

    @property
    def timing(self) -> dict[str, float]:
        return {"started": self.started, "finished": self.finished}

    def failure(self) -> Row:
        """The row of a failure."""
        assert self.error is not None
        reason = {"type": self.error.kind, "message": str(self.error)}
        return {"id": self.sample.id, "repeat": self.sample.repeat, "error": reason, "timing": self.timing}


async def collect(
    owed: Sequence[Sample],
    ask: Ask,
    record: Callable[[Answer], None],
    should_stop: Callable[[], bool],
    limits: Limits | None = None,
) -> None:
    """Ask for every sample, and `record` each answer as it comes. Ends early, between requests, when told to stop."""
    chosen = limits or Limits()
    queue = iter(owed)

    async def work() -> None:
        for sample in queue:
            if should_stop():
                return
            record(await _answer(sample, ask, chosen))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(chosen.in_flight, len(owed))):
            group.create_task(work())


async def _answer(sample: Sample, ask: Ask, limits: Limits) -> Answer:
    started = time.time()
    error: EngineError | None = None
    for attempt in range(limits.tries):
        if attempt:
            await asyncio.sleep(limits.backoff * 2 ** (attempt - 1))
        try:
            completion = await asyncio.wait_for(ask(sample), limits.deadline)
            return Answer(sample, started, time.time(), completion)
        except TimeoutError:
            error = EngineError("timeout", f"no answer within {limits.deadline:.0f} s")
        except EngineError as failure:
            error = failure
            if not failure.worth_another_try:
                break
    return Answer(sample, started, time.time(), None, error)
