"""What is kept of a row: numbers in arrays that are as wide as their largest value.

A row of a usual collection takes about 30 bytes, whatever it says, so that three million are some 100 MB. What a row
does not say is 0, what it says is one more than its value.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

WIDER = {"B": "H", "H": "I", "I": "Q"}
LARGEST = 2**63
"""A count beyond it is a mistake of who wrote it, and is not kept."""


class Counts:
    """A column of whole numbers from 0, or None."""

    def __init__(self) -> None:
        self._data = array("B")

    def __len__(self) -> int:
        return len(self._data)

    def extend(self, values: Sequence[int | None]) -> None:
        before = len(self._data)
        try:
            self._data.extend([value + 1 for value in values])  # type: ignore[operator]
        except (TypeError, OverflowError):  # one is None, or too large for so narrow a column
            del self._data[before:]
            self._extend_patiently(values)

    def _extend_patiently(self, values: Sequence[int | None]) -> None:
        self.extend_plain([0 if value is None or not 0 <= value < LARGEST else value + 1 for value in values])

    def extend_plain(self, values: Sequence[int]) -> None:
        """As `extend`, of values that are one more already."""
        before = len(self._data)
        while True:
            try:
                self._data.extend(values)
                return
            except OverflowError:  # what fitted before the value that did not is there already
                del self._data[before:]
                self._data = array(WIDER[self._data.typecode], self._data)

    def as_array(self) -> Any:
        """A numpy array over the same memory, one more than the values."""
        import numpy

        return numpy.frombuffer(self._data, dtype=numpy.dtype(self._data.typecode))


class Numbers:
    """A column of numbers; `typecode` d or f. What is not there is NaN."""

    def __init__(self, typecode: str) -> None:
        self._data: array[float] = array(typecode)

    def __len__(self) -> int:
        return len(self._data)

    def extend(self, values: Iterable[float]) -> None:
        self._data.extend(values)

    def as_array(self) -> Any:
        """A numpy array over the same memory."""
        import numpy

        return numpy.frombuffer(self._data, dtype=numpy.dtype(self._data.typecode))


class Words(dict[Any, int]):
    """Numbers words in the order in which they come: `words["stop"]` is 0 the first time and ever after."""

    def __missing__(self, word: Any) -> int:
        number = self[word] = len(self)
        return number
