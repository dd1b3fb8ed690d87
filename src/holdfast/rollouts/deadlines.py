"""Deadlines of one length, by one timer. Thousands of rollouts wait at a time, each under several deadlines; a timer of
the event loop for each takes more memory than what they guard, and time to put into order what is in order already.
"""

from __future__ import annotations

import asyncio


class Deadlines:
    """Ends what takes more than so many seconds, as `asyncio.timeout` does. Begin and end a timer without a pause
    between that and its `async with`. Use it within one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[asyncio.Timeout, float] = {}
        """In order, since all are of one length."""
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, timer: asyncio.Timeout) -> None:
        """From now on, or anew."""
        self._ends.pop(timer, None)
        loop = asyncio.get_running_loop()
        self._ends[timer] = ends = loop.time() + self.seconds
        if self._alarm is None:
            self._alarm = loop.call_at(ends, self._ring)

    def end(self, timer: asyncio.Timeout) -> None:
        """It was in time, or it no longer matters."""
        self._ends.pop(timer, None)
        if not self._ends and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def covers(self, timer: asyncio.Timeout) -> bool:
        """Whether it has begun and is not over."""
        return timer in self._ends

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to ring."""
        return self._alarm is None

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = None
        while self._ends:
            timer, ends = next(iter(self._ends.items()))
            if ends > loop.time():
                self._alarm = loop.call_at(ends, self._ring)
                return
            del self._ends[timer]
            timer.reschedule(ends)
