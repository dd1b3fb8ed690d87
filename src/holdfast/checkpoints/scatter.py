"""Puts runs, which lie one behind the other in a file, where they belong in a buffer."""

from __future__ import annotations

from typing import Literal

from holdfast.checkpoints.runs import Runs

NARROW = 64
"""Elements of a run below which runs are put in place by columns."""
IOV_MAX = 1024
"""Places that one read may fill: https://man7.org/linux/man-pages/man2/readv.2.html."""
MOST_PLACES = 4096
"""That are kept by a thread, 200 bytes each."""
FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Places:
    """Evenly spread parts of a buffer, in groups that one call may fill. They are the same for most blocks of a tensor,
    and kept as long as the buffer is.
    """

    def __init__(self) -> None:
        self._buffer: object = None
        self._kept: dict[tuple[int, ...], list[list[memoryview]]] = {}
        self._count = 0

    def get(self, buffer: memoryview, start: int, end: int, step: int, length: int) -> list[list[memoryview]]:
        """`length` bytes every `step`, from `start` up to `end`."""
        if self._buffer is not buffer.obj or self._count > MOST_PLACES:
            self._buffer, self._count = buffer.obj, 0
            self._kept.clear()
        key = (start, end, step, length)
        if key not in self._kept:
            views = [buffer[at : at + length] for at in range(start, end, step)]
            self._count += len(views)
            self._kept[key] = [views[at : at + IOV_MAX] for at in range(0, len(views), IOV_MAX)]
        return self._kept[key]


def scatter(
    target: memoryview, source: memoryview, runs: Runs, numbers: tuple[int, int], part: tuple[int, int]
) -> None:
    """Put runs, which lie one behind the other in `source`, where they belong; the outermost may be cut off."""
    number, high = numbers
    first, end = part
    length, inner, step = runs.length, runs.sizes[-1], runs.steps[-1]
    taken = 0
    while number < high:
        start = runs.start(number)
        count = min(high - number, inner - number % inner)
        if start < first:
            count = 1
        elif count > 1 and start + (count - 1) * step + length > end:
            count -= 1
        if count > 1 and length <= NARROW:
            at, span = start - first, (count - 1) * step + 1
            for column in range(length):
                target[at + column : at + column + span : step] = source[
                    taken + column : taken + count * length : length
                ]
            taken += count * length
        elif start >= first and start + (count - 1) * step + length <= end:
            for at in range(start - first, start - first + count * step, step):
                target[at : at + length] = source[taken : taken + length]
                taken += length
        else:  # a single run that the block cuts off
            low, top = max(start, first), min(start + length, end)
            target[low - first : top - first] = source[taken : taken + top - low]
            taken += top - low
        number += count
