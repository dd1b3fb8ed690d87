"""One attempt to have what is owed from the engines of a job: connections, breakers, the gate, and the loop."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.engines.completions import EngineError, Failure
from holdfast.rollouts import load
from holdfast.rollouts.admission import Admission
from holdfast.rollouts.breaker import Breaker
from holdfast.rollouts.calls import Calls, Limits
from holdfast.rollouts.collect import Work, collect
from holdfast.rollouts.counts import Counts
from holdfast.rollouts.gate import Bounds, Change, Gate
from holdfast.rollouts.lanes import Lane, Lanes
from holdfast.rollouts.single_turn import derive_seed

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.engines import Engine
    from holdfast.engines.client import Client
    from holdfast.engines.completions import Sampling
    from holdfast.rollouts.collection import Collection, Owed, Sample

SAY_EVERY = 10.0
"""Seconds between two lines in the log that say how far it is."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the engines' metrics."""
OTHER_FILES = 256
"""That may be open beside the lines to engines: rows, prompts, environments, verifiers."""

MakeWork = Callable[["Client", Calls], Work]
"""The work of one engine."""


@dataclass(frozen=True)
class Engines:
    """Who is asked, and how. `key` names the collection, and salts the seeds; `urls` are the engines of this job, one
    for each node, or the one that was there before; `standing` is whose word it is that they serve the model, None
    where we started them. With `bounds` the number in flight follows the engine, otherwise it is that of `limits`.
    """

    engine: Engine
    model: Path
    sampling: Sampling
    key: str
    urls: Sequence[str]
    limits: Limits
    standing: str | None = None
    bounds: Bounds | None = None


class Attempt:
    """What one attempt at a stage asks. `more` goes into every row; `unit` is what is counted, for people."""

    def __init__(self, engines: Engines, out: Output, unit: str = "response") -> None:
        self.engines = engines
        self.out = out
        self.unit = unit
        self.more: dict[str, Any] = {"attempt": out.attempt}
        self._gate = Gate(engines.bounds) if engines.bounds else None
        self._admission = Admission(self._gate.limit if self._gate else engines.limits.in_flight)
        self._clients: list[Client] = []
        self._say_next = time.monotonic() + SAY_EVERY

    async def run(
        self, owed: Iterable[Owed], collection: Collection, counts: Counts, make_work: MakeWork
    ) -> EngineError | None:
        """Ask for all of `owed`; `counts` follow. Returns why it was given up, if it was.

        Raises:
            UserError: an engine does not serve the model.
            OSError: rows could not be written.
        """
        self.report(counts)
        bounds = self.engines.bounds
        _allow_lines(max(self.engines.limits.in_flight, bounds.most if bounds else 0))
        async with AsyncExitStack() as stack:
            lanes = Lanes([await self._open(url, stack, make_work) for url in self.engines.urls])
            await stack.enter_async_context(self._following())
            return await collect(
                owed,
                lanes.work,
                collection,
                counts,
                limits=self.engines.limits,
                trouble=lambda: lanes.trouble,
                should_stop=self.out.stop_requested,
                report=self.report,
                more=self.more,
                admission=self._admission,
            )

    def seeds(self) -> Callable[[Sample], int | None]:
        """The seed of each response, where the engine keeps to it. One that seeds the whole server gets a seed with
        the first request of an attempt, so that no attempt repeats what an earlier one drew.
        """
        if self.engines.engine.capabilities.seeds == "request":
            return lambda sample: derive_seed(self.engines.key, sample)
        first = [int(self.out.token, 16) % 2**31]
        return lambda sample: first.pop() if first else None

    def report(self, counts: Counts) -> None:
        """Say how far it is, to whoever watches and now and then in the log."""
        self.out.progress(counts.done, counts.wanted, self.unit, **counts.as_progress())
        if time.monotonic() >= self._say_next:
            self._say_next = time.monotonic() + SAY_EVERY
            sys.stderr.write(counts.line() + "\n")

    async def _open(self, url: str, stack: AsyncExitStack, make_work: MakeWork) -> Lane:
        from holdfast.engines.client import connect
        from holdfast.engines.url import judge

        asked = self.engines
        client, served = await stack.enter_async_context(connect(asked.engine, asked.model, asked.sampling, url))
        if asked.standing == "asserted":
            self.more["model"] = asked.standing
        elif asked.standing is not None:
            self.more["model"] = await asyncio.to_thread(judge, url, served, asked.model)
        breaker = Breaker(client.is_healthy, asked.limits.patience, sys.stderr.write)
        stack.push_async_callback(breaker.close)
        self._clients.append(client)
        calls = Calls(asked.limits, breaker, self._hear)
        return Lane(make_work(client, calls), calls)

    def _hear(self, failure: Failure | None) -> None:
        if self._gate:
            self._follow(self._gate.hear(failure, self._admission.inside, time.monotonic()))

    def _follow(self, change: Change | None) -> None:
        if change:
            before = self._admission.limit
            self._admission.resize(change.limit)
            sys.stderr.write(f"at most {change.limit} in flight, {before} before: {change.reason}\n")

    @contextlib.asynccontextmanager
    async def _following(self) -> Any:
        """Meanwhile, look at the engines' metrics where the number in flight follows them."""
        if self._gate is None or self.engines.engine.capabilities.metrics is None:
            yield
            return
        looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look_on(self) -> None:
        assert self._gate is not None
        while True:
            texts = await asyncio.gather(*(client.read_metrics() for client in self._clients))
            found = load.read(text for text in texts if text is not None)
            self._follow(self._gate.look(found, self._admission.inside, time.monotonic()))
            await asyncio.sleep(LOOK_EVERY)


def _allow_lines(count: int) -> None:
    """Each request in flight has a line of its own to the engine, and most systems allow 1,024 open files at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        sys.stderr.write(f"{count} in flight need {wanted} open files, and this host allows {hard}: see `ulimit -Hn`\n")
        wanted = hard
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
