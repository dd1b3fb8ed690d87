"""The rows of a file or a collection as columns: the scalars that lists and figures need, and where each row lies.

A million rows take 69 MB, most of it mapped from a file. Rows arrive in chunks that never change, so a thread can add
some while others read. Nothing here is the truth: it can be made again from the rows at any time.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.rollouts.columns_names import Names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from holdfast.rollouts.columns_heads import Head

FIELDS = {
    "part": "I",
    "offset": "q",
    "size": "I",
    "prompt": "i",
    "repeat": "i",
    "reward": "d",
    "success": "b",
    "steps": "i",
    "tools": "i",
    "tokens": "i",
    "length": "i",
    "failure": "H",
    "truncated": "b",
    "seconds": "d",
    "finished": "d",
}
"""Columns in the order of a record, each with its type in `struct`."""
RECORD = struct.Struct("<" + "".join(FIELDS.values()))
MOST_FAILURES = 2**16 - 1
UNSEEN = -1

COUNTED, RETRIED, TWICE = 0, 1, 2
"""How a row stands among those of the same (prompt, repeat): it counts; it failed and a later one stands for it; it
was made although another one had been finished first."""


class Place(NamedTuple):
    """Where a row lies: the number of its part, and bytes in it."""

    part: int
    offset: int
    size: int


Chunk = dict[str, "NDArray[Any]"]


class Columns:
    """`count` rows; `version` changes whenever rows arrive. `prompts` and `failures` name what the columns number;
    failure 0 is none.
    """

    def __init__(
        self, chunks: Sequence[Chunk] = (), prompts: Names | None = None, failures: Names | None = None
    ) -> None:
        self.prompts = prompts or Names()
        self.failures = failures or Names()
        self.failures.number("")
        self._lock = threading.Lock()
        self._chunks = list(chunks)
        self.count = sum(len(chunk["part"]) for chunk in self._chunks)
        """Rows so far."""
        self._standing: tuple[int, NDArray[Any]] | None = None
        self._merged: dict[str, tuple[int, NDArray[Any]]] = {}
        self._next_repeat: dict[int, int] | None = None

    def add(self, heads: Sequence[tuple[Head, Place]]) -> None:
        """Take rows, in their order."""
        import numpy as np

        packed = bytearray()
        for head, place in heads:
            packed += self._pack(head, place)
        kind = np.dtype([(name, numpy_type(name)) for name in FIELDS])
        records = np.frombuffer(bytes(packed), dtype=kind)
        chunk = {name: np.ascontiguousarray(records[name]) for name in FIELDS}
        with self._lock:
            self._chunks.append(chunk)
            self.count += len(records)

    def column(self, name: str) -> NDArray[Any]:
        """One value a row; see `FIELDS`. Never write to it."""
        import numpy as np

        with self._lock:
            count, found = self._merged.get(name, (UNSEEN, None))
            if found is None or count != self.count:
                pieces = [chunk[name] for chunk in self._chunks]
                found = pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, np.empty(0, numpy_type(name))])
                self._merged[name] = (self.count, found)
                self._fold()
            return found

    def columns(self, *names: str) -> list[NDArray[Any]]:
        """Several of the same length, though rows may arrive meanwhile."""
        found = [self.column(name) for name in names]
        shortest = min(map(len, found))
        return [each[:shortest] for each in found]

    def place(self, row: int) -> Place:
        """Where a row lies.

        Raises:
            IndexError: there are fewer rows.
        """
        if not 0 <= row < self.count:
            raise IndexError(row)
        return Place(*(int(self.column(name)[row]) for name in Place._fields))

    def standing(self) -> NDArray[Any]:
        """COUNTED, RETRIED or TWICE for each row."""
        known = self._standing
        if known is None or known[0] != self.count:
            prompt, repeat, failure, finished = self.columns("prompt", "repeat", "failure", "finished")
            known = (len(prompt), judge(prompt, repeat, failure != 0, finished))
            self._standing = known
        return known[1]

    def remember_standing(self, found: NDArray[Any]) -> None:
        """What `standing` said before, of these rows."""
        self._standing = (self.count, found)

    def _fold(self) -> None:
        """Once every column was merged at this count, the many chunks are one."""
        if len(self._chunks) > 1 and all(self._merged.get(name, (UNSEEN,))[0] == self.count for name in FIELDS):
            self._chunks = [{name: self._merged[name][1] for name in FIELDS}]

    def _pack(self, head: Head, place: Place) -> bytes:
        prompt = self.prompts.number(head.prompt)
        failure = min(self.failures.number(head.failure), MOST_FAILURES) if head.failure else 0
        repeat = head.repeat if head.repeat >= 0 else self._count_repeat(prompt)
        scalars = (head.reward, head.success, head.steps, head.tools, head.tokens, head.length)
        return RECORD.pack(*place, prompt, repeat, *scalars, failure, head.truncated, head.seconds, head.finished)

    def _count_repeat(self, prompt: int) -> int:
        """Files without numbers: the repeats of a prompt are counted in the order in which they stand."""
        if self._next_repeat is None:
            import numpy as np

            before = np.bincount(self.column("prompt") if self.count else np.empty(0, np.int32))
            self._next_repeat = {number: int(count) for number, count in enumerate(before) if count}
        repeat = self._next_repeat.get(prompt, 0)
        self._next_repeat[prompt] = repeat + 1
        return repeat


def numpy_type(name: str) -> str:
    """The type of a column, as numpy writes it."""
    return {"b": "i1", "H": "<u2", "i": "<i4", "I": "<u4", "q": "<i8", "d": "<f8"}[FIELDS[name]]


def judge(prompt: NDArray[Any], repeat: NDArray[Any], failed: NDArray[Any], finished: NDArray[Any]) -> NDArray[Any]:
    """Of the rows of one (prompt, repeat) the first that was finished without a failure counts, or the last failure.

    All arrays have one entry a row; so has the result.
    """
    import numpy as np

    standing = np.full(len(prompt), TWICE, dtype=np.int8)
    if not len(prompt):
        return standing
    key = prompt.astype(np.int64) << 32 | repeat.astype(np.int64)
    if np.all(np.diff(key) > 0):  # a published file: sorted, nothing twice
        return np.zeros(len(prompt), dtype=np.int8)
    order = np.lexsort((np.where(failed, -np.nan_to_num(finished), np.nan_to_num(finished)), failed, key))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = key[order][1:] != key[order][:-1]
    standing[failed] = RETRIED
    standing[order[is_first]] = COUNTED
    return standing
