"""So many at a time, where the number may change while it is used."""

from __future__ import annotations

import asyncio
from collections import deque


class Admission:
    """A semaphore with a size that can be set. A smaller one takes effect as those inside leave."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait until there is room, in the order of asking."""
        while self.inside >= self.limit:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        self.inside += 1
        self._wake()

    def leave(self) -> None:
        """Make room."""
        self.inside -= 1
        self._wake()

    def resize(self, limit: int) -> None:
        """Let so many in from now on."""
        self.limit = limit
        self._wake()

    def _wake(self) -> None:
        """One at a time: who has entered wakes the next."""
        while self._waiting and self.inside < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
