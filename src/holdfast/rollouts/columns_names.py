"""Texts and their numbers, in the order in which they came: the ids of prompts, the types of failures."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATOR = b"\0"


class Names:
    """The first ones may come as `blob` (each in UTF-8 and ended by a zero byte) with the places where each `start`s;
    they stay as they are until a text must be found among them.
    """

    def __init__(self, blob: bytes | memoryview = b"", starts: NDArray[Any] | None = None) -> None:
        self._blob = memoryview(blob)
        self._starts = starts
        self._before = 0 if starts is None else len(starts)
        self._new: list[str] = []
        self._numbers: dict[str, int] | None = None
        self._lock = threading.Lock()
        self._packed: tuple[int, tuple[bytes, NDArray[Any]]] | None = None

    def __len__(self) -> int:
        return self._before + len(self._new)

    def number(self, text: str) -> int:
        """The number of a text, a new one if it was never seen."""
        if self._numbers is None:
            self._numbers = {self.text(number): number for number in range(len(self))}
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self)
            self._new.append(text)
        return found

    def text(self, number: int) -> str:
        """The text of a number.

        Raises:
            IndexError: there is none.
        """
        if number < 0 or number >= len(self):
            raise IndexError(number)
        if number >= self._before:
            return self._new[number - self._before]
        assert self._starts is not None
        start = int(self._starts[number])
        end = int(self._starts[number + 1]) if number + 1 < self._before else len(self._blob)
        return bytes(self._blob[start : end - 1]).decode("utf-8", "surrogatepass")

    def packed(self) -> tuple[bytes, NDArray[Any]]:
        """All of them as (blob, starts)."""
        import numpy as np

        with self._lock:
            count = len(self)
            if self._packed is None or self._packed[0] != count:
                new = [text.encode("utf-8", "surrogatepass") + SEPARATOR for text in self._new[: count - self._before]]
                sizes = np.fromiter(map(len, new), dtype=np.int64, count=len(new))
                starts = len(self._blob) + np.cumsum(sizes) - sizes
                old = np.empty(0, np.int64) if self._starts is None else self._starts
                self._packed = (count, (bytes(self._blob) + b"".join(new), np.concatenate([old, starts])))
            return self._packed[1]

    def search(self, text: str) -> NDArray[Any]:
        """The numbers of all that hold `text`, whatever the case of ASCII letters."""
        import numpy as np

        blob, starts = self.packed()
        needle = text.encode("utf-8", "surrogatepass").lower()
        if not needle or len(needle) > len(blob):
            return np.arange(len(starts) if not needle else 0)
        letters = np.frombuffer(blob.lower(), dtype=np.uint8)
        last = len(letters) - len(needle) + 1
        hits = np.flatnonzero(letters[:last] == needle[0])
        for distance, letter in enumerate(needle[1:], 1):
            hits = hits[letters[hits + distance] == letter]
        first = np.searchsorted(starts, hits, side="right") - 1
        across = np.searchsorted(starts, hits + len(needle) - 1, side="right") - 1
        found: NDArray[Any] = np.unique(first[first == across])
        return found
