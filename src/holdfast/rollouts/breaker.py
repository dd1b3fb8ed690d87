"""The circuit breaker: while the engine is gone nobody asks it, and nobody pays for it with a try.

Closed, calls pass. A lost connection, or several failures of the server or deadlines in a row, open it; then its health
path is polled. Where that was seen down and is up again, the circuit closes, and a new era begins: what failed in the
old one was the outage's fault. Where it was up all along (an engine that answers 500 and says that it is well), one
call at a time is let through, until one succeeds. After `patience` seconds of this the engine counts as gone for good.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

from holdfast.engines.completions import EngineError, Failure

IN_A_ROW = 3
FIRST_POLL = 0.1
LONGEST_POLL = 5.0
JITTER = 0.25
"""So that a thousand calls that were told to wait do not come back at once."""


class Breaker:
    """`era` counts the outages that the engine came back from. `trouble` is set once it is given up."""

    def __init__(
        self, is_healthy: Callable[[], Awaitable[bool]], patience: float, say: Callable[[str], object] | None = None
    ) -> None:
        self.era = 0
        self.trouble: EngineError | None = None
        self._is_healthy = is_healthy
        self._patience = patience
        self._say = say or (lambda words: None)
        self._in_a_row = 0
        self._mending: asyncio.Task[None] | None = None
        self._mended = asyncio.Event()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._quiet_until = 0.0

    @property
    def is_open(self) -> bool:
        return self._mending is not None

    async def passage(self) -> None:
        """Wait until a call may be made.

        Raises:
            EngineError: the engine is given up.
        """
        if self._mending is not None and self.trouble is None:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        if self.trouble is not None:
            raise EngineError(self.trouble.kind, str(self.trouble))
        while (wait := self._quiet_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait * (1 + JITTER * random.random()))

    def succeeded(self) -> None:
        """The engine answered a call."""
        self._in_a_row = 0
        if self._mending is not None:
            self._mended.set()

    def failed(self, kind: Failure) -> None:
        """A call met a failure that may be an outage."""
        self._in_a_row += IN_A_ROW if kind == Failure.CONNECTION else 1
        if self._in_a_row >= IN_A_ROW and self._mending is None and self.trouble is None:
            self._mended.clear()
            self._mending = asyncio.create_task(self._mend(kind))

    def hold(self, seconds: float) -> None:
        """No call for so long: the engine asked for it."""
        self._quiet_until = max(self._quiet_until, asyncio.get_running_loop().time() + seconds)

    def give_up(self, trouble: EngineError) -> None:
        """Nobody waits any longer."""
        self.trouble = self.trouble or trouble
        self._let(len(self._waiting))

    async def close(self) -> None:
        """End the polling."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)

    async def _mend(self, kind: Failure) -> None:
        self._say(f"the engine fails ({kind}): waiting until it is well\n")
        began = asyncio.get_running_loop().time()
        was_down, delay = False, FIRST_POLL
        while not self._mended.is_set():
            is_up = await self._is_healthy()
            if is_up and was_down:
                self.era += 1
                break
            was_down = was_down or not is_up
            if is_up:
                self._let(1)
            if asyncio.get_running_loop().time() - began > self._patience:
                words = f"the engine did not come back within {self._patience:.0f} s, the first failure: {kind}"
                self.give_up(EngineError(Failure.ENGINE_DOWN, words))
                return
            await self._wait(delay)
            delay = min(2 * delay, LONGEST_POLL)
        self._say("the engine answers again\n")
        self._in_a_row = 0
        self._mending = None
        self._let(len(self._waiting))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._mended.wait()
        except TimeoutError:
            return

    def _let(self, count: int) -> None:
        while count and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                count -= 1
