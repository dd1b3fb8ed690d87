"""The rows of a published file, one at a time and of each only what metrics need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from holdfast.evaluation.recorded import Row


class Counted(TypedDict, total=False):
    """What of a row its metrics depend on."""

    id: str
    repeat: int
    reward: Any
    success: Any
    answer: Any
    finish: Any
    usage: Any
    timing: Any


class Survey(NamedTuple):
    """The prompts of a file, in the order in which they come; how many repeats there are of one at most; whether rows
    are in the order of both.
    """

    ids: list[str]
    repeats: int
    is_ordered: bool


def read(path: Path) -> Iterator[Row]:
    """The rows as they come."""
    decode = _decoder()
    with open(path, "rb") as lines:
        for line in lines:
            yield decode(line)


def survey(path: Path) -> Survey:
    """Read a file through once."""
    ids: dict[str, None] = {}
    most, is_ordered = -1, True
    last: tuple[str, int] | None = None
    for row in read(path):
        name, repeat = row["id"], row["repeat"]
        goes_on = last is not None and last[0] == name
        is_ordered = is_ordered and (repeat > last[1] if last and goes_on else name not in ids)
        ids[name] = None
        most, last = max(most, repeat), (name, repeat)
    return Survey(list(ids), most + 1, is_ordered)


def read_in_order(path: Path, found: Survey) -> Iterator[Row]:
    """The rows in the order of `found.ids` and of repeats; the last of several counts. `found` is of this file, or of
    one that holds these rows in this order. Only where they are in no order they are held.
    """
    if found.is_ordered:
        yield from read(path)
        return
    numbers = {each: number for number, each in enumerate(found.ids)}
    kept = {(numbers[row["id"]], row["repeat"]): row for row in read(path)}
    yield from (kept[place] for place in sorted(kept))


def _decoder() -> Callable[[bytes], Row]:
    """Of a line; msgspec passes over what nobody asked for, and the standard library reads what it refuses (NaN)."""
    try:
        import msgspec
    except ImportError:
        return _all_of_it
    fast = msgspec.json.Decoder(Counted)

    def decode(line: bytes) -> Row:
        try:
            return fast.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _all_of_it(line)

    return decode


def _all_of_it(line: bytes) -> Row:
    row: dict[str, Any] = json.loads(line)
    return row
