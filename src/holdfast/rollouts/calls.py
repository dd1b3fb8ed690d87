"""One call to the engine, made until it is answered or cannot be: a deadline, bounded tries, and the breaker.

What a rollout of many turns needs, too: a call that fails in the middle is made again by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVarTuple

from holdfast.engines.completions import DOWN, Completion, EngineError, Failure
from holdfast.rollouts.breaker import JITTER, Breaker
from holdfast.rollouts.deadlines import Deadlines

MOST_OUTAGES = 5
"""Outages that one call may outlive: what ends the engine each time may be this very call."""
LONGEST_BACKOFF = 30.0
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Limits:
    """All times in seconds. `deadline` is for one request; between tries the wait doubles from `backoff`; `patience` is
    for an engine that is gone, or only says 429; `stall` for one that takes requests and answers none; `grace` for what
    is in flight when the word to stop comes.
    """

    in_flight: int = 32
    deadline: float = 600.0
    tries: int = 3
    backoff: float = 0.5
    patience: float = 600.0
    stall: float = 900.0
    grace: float = 10.0


class Answered(NamedTuple):
    completion: Completion
    tries: int


class Calls:
    """All calls to one engine. `hear` is told how each request ended: its failure, or None where it was answered."""

    def __init__(
        self, limits: Limits, breaker: Breaker, hear: Callable[[Failure | None], object] = lambda failure: None
    ) -> None:
        self._hear = hear
        self._limits = limits
        self._breaker = breaker
        self._deadlines = Deadlines(limits.deadline)
        self._flying = 0
        self._heard = 0.0

    @property
    def trouble(self) -> EngineError | None:
        """Why no call can succeed any more; looks for a stall."""
        silent = asyncio.get_running_loop().time() - self._heard
        if self._flying and silent > self._limits.stall:
            words = f"{self._flying} requests in flight and no answer to any for {silent:.0f} s"
            self._breaker.give_up(EngineError(Failure.STALLED, words))
        return self._breaker.trouble

    async def make(self, call: Callable[[*Ts], Awaitable[Completion]], *arguments: *Ts) -> Answered:
        """What `call` returns, from as many tries as it takes and is allowed.

        Raises:
            EngineError: of the last try; `engine_down` or `stalled` where the engine is given up.
        """
        spent = made = outages = 0
        waited = 0.0
        era = self._breaker.era
        while True:
            await self._breaker.passage()
            if era != self._breaker.era:
                era, spent, outages = self._breaker.era, 0, outages + 1
            made += 1
            timer = self._begin()
            try:
                async with timer:
                    completion = await call(*arguments)
                self._succeeded()
                return Answered(completion, made)
            except TimeoutError:
                failure = self._late()
            except EngineError as error:
                failure = self._note(error)
            finally:
                self._end(timer)
            if failure.kind == Failure.RATE_LIMITED and waited < self._limits.patience:
                waited += self._hold(failure, waited)
                continue
            spent += 1
            if not failure.worth_another_try or outages >= MOST_OUTAGES:
                raise failure
            await self._back_off(spent)
            if spent >= self._limits.tries and not await self._was_outage(failure, era):
                raise failure

    def _begin(self) -> asyncio.Timeout:
        if not self._flying:
            self._heard = asyncio.get_running_loop().time()
        self._flying += 1
        timer = asyncio.timeout(None)
        self._deadlines.begin(timer)
        return timer

    def _end(self, timer: asyncio.Timeout) -> None:
        self._deadlines.end(timer)
        self._flying -= 1

    def _succeeded(self) -> None:
        self._heard = asyncio.get_running_loop().time()
        self._breaker.succeeded()
        self._hear(None)

    def _late(self) -> EngineError:
        self._hear(Failure.TIMEOUT)
        self._breaker.failed(Failure.TIMEOUT)
        return EngineError(Failure.TIMEOUT, f"no answer within {self._limits.deadline:g} s")

    def _note(self, error: EngineError) -> EngineError:
        self._hear(error.kind)
        self._heard = asyncio.get_running_loop().time()
        if error.kind in DOWN:
            self._breaker.failed(error.kind)
            if error.retry_after is not None:
                self._breaker.hold(min(error.retry_after, self._limits.patience))
        elif error.kind not in (Failure.RATE_LIMITED, Failure.MALFORMED):
            self._breaker.succeeded()
        return error

    def _hold(self, failure: EngineError, waited: float) -> float:
        """Let everybody wait as long as the engine asks; without a word of it, longer each time."""
        asked = failure.retry_after
        own = min(max(self._limits.backoff, waited), LONGEST_BACKOFF)
        seconds = own if asked is None else min(max(asked, self._limits.backoff), self._limits.patience)
        self._breaker.hold(seconds)
        return seconds

    async def _back_off(self, spent: int) -> None:
        longest = min(self._limits.backoff * 2 ** (spent - 1), LONGEST_BACKOFF)
        if spent < self._limits.tries:
            await asyncio.sleep(longest * (1 + JITTER * random.random()))

    async def _was_outage(self, failure: EngineError, era: int) -> bool:
        """Whether the last failure was an outage's fault: known once the engine is well again."""
        if failure.kind not in DOWN and failure.kind != Failure.TIMEOUT:
            return False
        await self._breaker.passage()
        return self._breaker.era != era
