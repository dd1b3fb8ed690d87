"""One attempt to have every response that an evaluation owes: asked, graded, durable."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import HoldfastError, Stopped
from holdfast.evaluation.gradings import open_grading
from holdfast.evaluation.templates import ChatTemplate

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.engines import Engine
    from holdfast.engines.completions import Sampling
    from holdfast.environments import Environment, Prompt
    from holdfast.rollouts.calls import Limits
    from holdfast.rollouts.collection import Collection, Sample
    from holdfast.rollouts.counts import Counts
    from holdfast.rollouts.lanes import Lane
    from holdfast.rollouts.row_index import Index
    from holdfast.rollouts.single_turn import Grading

SAY_EVERY = 10.0
"""Seconds between two lines in the log that say how far it is."""


@dataclass(frozen=True)
class Asking:
    """What is asked of whom. `key` names the collection, and salts the seeds; `urls` are the engines of this job, one
    for each node, or the one that was there before; `standing` is whose word it is that they serve the model, None
    where we started them.
    """

    environment: Environment
    engine: Engine
    model: Path
    sampling: Sampling
    template: ChatTemplate
    key: str
    urls: Sequence[str]
    limits: Limits
    verifier_workers: int
    standing: str | None = None


class Collecting:
    """The loop of one attempt; `accepted` failures are no reason to fail."""

    def __init__(self, asking: Asking, out: Output, accepted: int = 0) -> None:
        self.asking = asking
        self.out = out
        self.accepted = accepted
        self._say_next = time.monotonic() + SAY_EVERY

    async def run(self, collection: Collection, index: Index) -> Counts:
        """Ask for what is owed until nothing is; returns how it went.

        Raises:
            Stopped: the word to stop came.
            HoldfastError: more responses than are accepted could not be had; the others are recorded.
        """
        from holdfast.rollouts.collect import collect
        from holdfast.rollouts.counts import Counts
        from holdfast.rollouts.lanes import Lanes

        counts = Counts(index.wanted, index.done)
        more: dict[str, Any] = {"attempt": self.out.attempt}
        self._report(counts)
        async with AsyncExitStack() as stack:
            grade = await stack.enter_async_context(open_grading(self.asking.environment, self.asking.verifier_workers))
            lanes = Lanes([await self._open(url, index, grade, stack, more) for url in self.asking.urls])
            trouble = await collect(
                index.owed(),
                lanes,
                collection,
                counts,
                limits=self.asking.limits,
                trouble=lambda: lanes.trouble,
                should_stop=self.out.stop_requested,
                report=self._report,
                more=more,
            )
        self._check(counts, str(trouble or ""))
        return counts

    async def _open(self, url: str, index: Index, grade: Grading, stack: AsyncExitStack, more: dict[str, Any]) -> Lane:
        from holdfast.engines.client import connect
        from holdfast.engines.url import judge
        from holdfast.rollouts.breaker import Breaker
        from holdfast.rollouts.calls import Calls
        from holdfast.rollouts.lanes import Lane
        from holdfast.rollouts.single_turn import SingleTurn

        asking = self.asking
        client, served = await stack.enter_async_context(connect(asking.engine, asking.model, asking.sampling, url))
        if asking.standing == "asserted":
            more["model"] = asking.standing
        elif asking.standing is not None:
            more["model"] = await asyncio.to_thread(judge, url, served, asking.model)
        breaker = Breaker(client.is_healthy, asking.limits.patience, sys.stderr.write)
        stack.push_async_callback(breaker.close)
        calls = Calls(asking.limits, breaker)
        return Lane(SingleTurn(client, calls, self._prompts, grade, self._seeds(), index.response), calls)

    @cached_property
    def _prompts(self) -> dict[str, Prompt]:
        put = self.asking.template.open(self.asking.model)
        return {prompt.id: put(prompt) for prompt in self.asking.environment.prompts()}

    def _seeds(self) -> Callable[[Sample], int | None]:
        """Of each response, where the engine keeps to it. One that seeds the whole server gets a seed with the first
        request of an attempt, so that no attempt repeats what an earlier one drew.
        """
        from holdfast.rollouts.single_turn import derive_seed

        if self.asking.engine.capabilities.seeds == "request":
            return lambda sample: derive_seed(self.asking.key, sample)
        first = [int(self.out.token, 16) % 2**31]
        return lambda sample: first.pop() if first else None

    def _report(self, counts: Counts) -> None:
        self.out.progress(counts.done, counts.wanted, "response")
        if time.monotonic() >= self._say_next:
            self._say_next = time.monotonic() + SAY_EVERY
            sys.stderr.write(counts.line() + "\n")

    def _check(self, counts: Counts, trouble: str) -> None:
        """
        Raises:
            Stopped: the word to stop came.
            HoldfastError: more responses than are accepted could not be had.
        """
        failed = sum(counts.failed.values())
        if failed > self.accepted or (failed and trouble):
            gave_up = f"; given up: {trouble}" if trouble else ""
            says = f"{failed} of {counts.wanted} responses failed, the first: {counts.first_failure}"
            raise HoldfastError(says + gave_up)
        if trouble:
            raise HoldfastError(f"given up at response {counts.done} of {counts.wanted}: {trouble}")
        if counts.done + failed < counts.wanted:
            raise Stopped(f"stopped at response {counts.done} of {counts.wanted}")
