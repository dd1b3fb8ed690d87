"""Where each row is, without holding rows: of a line only the few fields are decoded that say whose it is.

For a million wanted rows it takes 25 MB beside the prompts' ids. msgspec is loaded with this module, so it is imported
late.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from holdfast.core.errors import UserError
from holdfast.engines.completions import Failure
from holdfast.rollouts.collection import SCHEMA, Owed, Row, Sample

PART_BITS = 40
"""A place is the part's number and, in so many bits, the offset in it: parts of up to a terabyte."""
OPEN_PARTS = 64
NOWHERE = -1
NOT_ITS_OWN = frozenset({Failure.ENGINE_DOWN, Failure.STALLED})
"""Failures that befell everything that was in flight, and say nothing of the rollout itself."""
LATE = float("inf")


class _Timing(msgspec.Struct):
    finished: float


class _Error(msgspec.Struct):
    type: str = ""


class _Head(msgspec.Struct):
    schema: int
    id: str
    repeat: int
    timing: _Timing
    reward: float | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET
    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Head)
encode = msgspec.json.Encoder().encode


class Index:
    """The rows of `repeats` responses to each of `ids`, as far as they are there, in the parts of one directory.

    Where several attempts recorded the same response, the one that was finished first counts. Lines that are torn,
    foreign or of a later version are passed over; they stay where they are, and what they held is owed.

    Raises:
        UserError: two prompts have the same id.
    """

    def __init__(self, parts: Path, ids: Sequence[str], repeats: int) -> None:
        self._order = {each: number for number, each in enumerate(ids)}
        if len(self._order) != len(ids):
            twice = next(each for number, each in enumerate(ids) if self._order[each] != number)
            raise UserError(f"two prompts have the id {twice!r}", "give every prompt an id of its own")
        self.repeats = repeats
        self.wanted = len(ids) * repeats
        self._places = array("q", [NOWHERE]) * self.wanted
        self._ungraded = array("q", [NOWHERE]) * self.wanted
        self._finished = array("d", [LATE]) * self.wanted
        self._failures = array("H", [0]) * self.wanted
        self.done = 0
        self.passed_over = 0
        self._parts = sorted(parts.glob("*.jsonl"))
        self._open: dict[int, IO[bytes]] = {}
        for number, part in enumerate(self._parts):
            self._scan(number, part)

    def owed(self, attempts: int | None = None) -> Iterator[Owed]:
        """What is not there, repeat by repeat, so that all prompts are begun early; what failed `attempts` times is
        given up.
        """
        for repeat in range(self.repeats):
            for each, number in self._order.items():
                at = number * self.repeats + repeat
                if self._places[at] == NOWHERE and (attempts is None or self._failures[at] < attempts):
                    yield Owed(Sample(each, repeat), self._ungraded[at] != NOWHERE, self._failures[at])

    @property
    def ids(self) -> Collection[str]:
        """Of the prompts, in order; fast to look in."""
        return self._order.keys()

    def has(self, sample: Sample) -> bool:
        """Whether it is there."""
        return self._places[self._order[sample.id] * self.repeats + sample.repeat] != NOWHERE

    def first_rows(self) -> Iterator[Row]:
        """One row of each prompt that has any."""
        for number in range(len(self._order)):
            places = self._places[number * self.repeats : (number + 1) * self.repeats]
            place = next((each for each in places if each != NOWHERE), NOWHERE)
            if place != NOWHERE:
                yield self._read(place)

    def given_up(self, attempts: int) -> int:
        """How many are not there and failed so often."""
        pairs = zip(self._places, self._failures, strict=True)
        return sum(place == NOWHERE and failures >= attempts for place, failures in pairs)

    def lines(self) -> Iterator[bytes]:
        """The lines of `rows`, as they were written."""
        yield from (self._line(place) for place in self._places if place != NOWHERE)

    def rows(self) -> Iterator[Row]:
        """What is there, in the order of the prompts, each read when it is asked for."""
        yield from (self._read(place) for place in self._places if place != NOWHERE)

    def row(self, sample: Sample) -> Row:
        """The row of a response that is there.

        Raises:
            KeyError: it is not.
        """
        return self._read_at(self._places, sample)

    def response(self, sample: Sample) -> Row:
        """The row of a response that is there and could not be graded.

        Raises:
            KeyError: there is none.
        """
        return self._read_at(self._ungraded, sample)

    def close(self) -> None:
        """Close the parts that are open for reading."""
        while self._open:
            self._open.popitem()[1].close()

    def _scan(self, number: int, part: Path) -> None:
        offset = 0
        with open(part, "rb") as lines:
            for line in lines:
                self._enter(line, number << PART_BITS | offset)
                offset += len(line)

    def _enter(self, line: bytes, place: int) -> None:
        try:
            head = _decoder.decode(line) if line.endswith(b"\n") else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            head = None
        if head is None or head.schema != SCHEMA or (head.error is msgspec.UNSET and head.reward is msgspec.UNSET):
            self.passed_over += 1
            return
        if head.id not in self._order or not 0 <= head.repeat < self.repeats:
            return
        at = self._order[head.id] * self.repeats + head.repeat
        if head.error is not msgspec.UNSET:
            self._failures[at] = min(self._failures[at] + (head.error.type not in NOT_ITS_OWN), 2**16 - 1)
            if head.response is not msgspec.UNSET:
                self._ungraded[at] = place
        elif head.timing.finished < self._finished[at]:
            self.done += self._places[at] == NOWHERE
            self._places[at], self._finished[at] = place, head.timing.finished

    def _read_at(self, places: array[int], sample: Sample) -> Row:
        place = NOWHERE
        if sample.id in self._order and 0 <= sample.repeat < self.repeats:
            place = places[self._order[sample.id] * self.repeats + sample.repeat]
        if place == NOWHERE:
            raise KeyError(sample)
        return self._read(place)

    def _read(self, place: int) -> Row:
        row: dict[str, Any] = json.loads(self._line(place))
        return row

    def _line(self, place: int) -> bytes:
        number, offset = place >> PART_BITS, place & (1 << PART_BITS) - 1
        if number not in self._open:
            if len(self._open) >= OPEN_PARTS:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = open(self._parts[number], "rb")  # noqa: SIM115
        file = self._open[number]
        file.seek(offset)
        return file.readline()
