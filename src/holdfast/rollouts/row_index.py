"""Where each row is, without holding rows: of a line only the few fields are decoded that say whose it is.

For a million wanted rows it takes 10 MB beside the prompts' ids, and 8 MB more where responses lack a grade. msgspec is
loaded with this module, so it is imported late.
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


class _Standing(msgspec.Struct):
    model: str = "started for this"


_decoder = msgspec.json.Decoder(_Head)
_standings = msgspec.json.Decoder(_Standing)
encode = msgspec.json.Encoder().encode


class Index:
    """The rows of `repeats` responses to each of `ids`, as far as they are there, in the parts of one directory.

    Where several attempts recorded the same response, the one that was finished first counts. Lines that are torn,
    foreign or of a later version are passed over; they stay where they are, and what they held is owed. What is written
    later is taken in by `update`.

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
        self._ungraded: array[int] | None = None
        self._failures = array("H", [0]) * self.wanted
        self.done = 0
        self._foreign = 0
        self._directory = parts
        self._parts: list[Path] = []
        self._ends: list[int] = []
        self._torn: set[int] = set()
        self._open: dict[int, IO[bytes]] = {}
        self.update()

    def update(self) -> None:
        """Take in what was written since; to be called while nobody iterates."""
        known = set(self._parts)
        self._parts += [part for part in sorted(self._directory.glob("*.jsonl")) if part not in known]
        self._ends += [0] * (len(self._parts) - len(self._ends))
        for number, part in enumerate(self._parts):
            self._scan(number, part)

    @property
    def passed_over(self) -> int:
        """Lines that count for nothing."""
        return self._foreign + len(self._torn)

    def owed(self, attempts: int | None = None) -> Iterator[Owed]:
        """What is not there, repeat by repeat, so that all prompts are begun early; what failed `attempts` times is
        given up.
        """
        for repeat in range(self.repeats):
            for each, number in self._order.items():
                at = number * self.repeats + repeat
                if self._places[at] == NOWHERE and (attempts is None or self._failures[at] < attempts):
                    yield Owed(Sample(each, repeat), self._has_response(at), self._failures[at])

    @property
    def ids(self) -> Collection[str]:
        """Of the prompts, in order; fast to look in."""
        return self._order.keys()

    def has(self, sample: Sample) -> bool:
        """Whether it is there."""
        return self._places[self.place(sample)] != NOWHERE

    def place(self, sample: Sample) -> int:
        """Which of all that is wanted a sample is, from 0, by prompt and repeat."""
        return self._order[sample.id] * self.repeats + sample.repeat

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
        """Enter the lines behind those that were entered; a torn one may be whole the next time."""
        self._torn.discard(number)
        end = self._ends[number]
        with open(part, "rb") as lines:
            lines.seek(end)
            for line in lines:
                if not line.endswith(b"\n"):
                    self._torn.add(number)
                    break
                self._enter(line, number << PART_BITS | end)
                end += len(line)
        self._ends[number] = end

    def _enter(self, line: bytes, place: int) -> None:
        head = _head(line)
        if head is None:
            self._foreign += 1
            return
        prompt = self._order.get(head.id)
        if prompt is None or not 0 <= head.repeat < self.repeats:
            return
        at = prompt * self.repeats + head.repeat
        if head.error is not msgspec.UNSET:
            self._failures[at] = min(self._failures[at] + (head.error.type not in NOT_ITS_OWN), 2**16 - 1)
            if head.response is not msgspec.UNSET:
                self._enter_ungraded(at, place)
        elif self._places[at] == NOWHERE:
            self.done += 1
            self._places[at] = place
        elif head.timing.finished < self._finished(self._places[at]):
            self._places[at] = place

    def _enter_ungraded(self, at: int, place: int) -> None:
        if self._ungraded is None:
            self._ungraded = array("q", [NOWHERE]) * self.wanted
        self._ungraded[at] = place

    def _has_response(self, at: int) -> bool:
        return self._ungraded is not None and self._ungraded[at] != NOWHERE

    def _finished(self, place: int) -> float:
        """When the row at a place was, read again: what is there twice is rare."""
        head = _head(self._line(place))
        assert head is not None
        return head.timing.finished

    def _read_at(self, places: array[int] | None, sample: Sample) -> Row:
        place = NOWHERE
        if places is not None and sample.id in self._order and 0 <= sample.repeat < self.repeats:
            place = places[self.place(sample)]
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


def standing(line: bytes) -> str:
    """Whose word it is that the engine of a row served the model."""
    return _standings.decode(line).model


def _head(line: bytes) -> _Head | None:
    """None of a line that is no row of ours."""
    try:
        head = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    is_row = head.error is not msgspec.UNSET or head.reward is not msgspec.UNSET
    return head if head.schema == SCHEMA and is_row else None
