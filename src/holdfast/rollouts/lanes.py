"""Several engines that serve one model: each rollout goes to the one with the fewest in flight, and stays there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from holdfast.engines.completions import EngineError
from holdfast.rollouts.calls import Calls
from holdfast.rollouts.collect import Leave, Work
from holdfast.rollouts.collection import Owed, Row


class Lane(NamedTuple):
    """One engine: the work that asks it, and its calls."""

    work: Work
    calls: Calls


class Lanes:
    """The `work` of a collection over all engines."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._busy = [0] * len(lanes)

    @property
    def trouble(self) -> EngineError | None:
        """Why no call to one of them can succeed any more: what it had is owed, and so it is not gone on without it."""
        return next((lane.calls.trouble for lane in self._lanes if lane.calls.trouble), None)

    @property
    def work(self) -> Work:
        """Of all of them; where there is one, its own."""
        return self._lanes[0].work if len(self._lanes) == 1 else self

    async def __call__(self, owed: Owed, leave: Leave) -> Row:
        """The row of one rollout; raises what the work raises."""
        number = self._busy.index(min(self._busy))
        self._busy[number] += 1
        try:
            return await self._lanes[number].work(owed, leave)
        finally:
            self._busy[number] -= 1
