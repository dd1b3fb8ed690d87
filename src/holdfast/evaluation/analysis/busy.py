"""How long at least one of many spans was under way, found as the spans come."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Busy:
    """The union of spans (start, end) in seconds. Memory is that of its gaps."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def add(self, spans: Iterable[tuple[float, float]]) -> None:
        """Take some spans; those of one call are merged first, since rows that lie together overlap."""
        start = end = None
        for begin, finish in sorted(spans):
            if end is None or start is None or begin > end:
                if start is not None and end is not None:
                    self._merge(start, end)
                start, end = begin, finish
            else:
                end = max(end, finish)
        if start is not None and end is not None:
            self._merge(start, end)

    @property
    def seconds(self) -> float | None:
        """None of no span at all."""
        if not self._starts:
            return None
        return sum(end - start for start, end in zip(self._starts, self._ends, strict=True))

    @property
    def ends(self) -> tuple[float, float] | None:
        """When the first began and the last ended."""
        return (self._starts[0], self._ends[-1]) if self._starts else None

    def _merge(self, start: float, end: float) -> None:
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]
