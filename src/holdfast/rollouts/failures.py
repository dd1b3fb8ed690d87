"""What could not be had, and why: the rows of a collection that have an error instead of a reward."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.rollouts.collection import Sample

if TYPE_CHECKING:
    from holdfast.rollouts.row_index import Index

MARK = b'"error"'
"""A line without it holds no failure, and is not decoded."""


class Failed(NamedTuple):
    """One try at a rollout that came to nothing. `number`: which of its failures, from 1; `attempt`: of the stage."""

    sample: Sample
    number: int
    attempt: int
    type: str
    message: str
    finished: float

    def as_dict(self) -> dict[str, Any]:
        """A line of `failures.jsonl`."""
        rest = self._asdict()
        sample = rest.pop("sample")
        return {"id": sample.id, "repeat": sample.repeat, **rest}


def read(parts: Path, ids: Container[str], repeats: int) -> Iterator[Failed]:
    """The failures of `repeats` rollouts of each of `ids`, in the order in which attempts wrote them."""
    numbers: dict[str, array[int]] = {}
    for part in sorted(parts.glob("*.jsonl")):
        with open(part, "rb") as lines:
            for line in lines:
                row = _failure(line)
                if row and row["id"] in ids and 0 <= row["repeat"] < repeats:
                    sample = Sample(row["id"], row["repeat"])
                    if sample.id not in numbers:
                        numbers[sample.id] = array("I", [0]) * repeats
                    numbers[sample.id][sample.repeat] += 1
                    yield _as_failed(row, sample, numbers[sample.id][sample.repeat])


def summarise(found: Iterable[Failed], index: Index) -> tuple[Counter[str], str]:
    """How many of what is not in `index` failed last with which type, and the first failure of them in words."""
    types: dict[str, int] = {}
    last = array("I", [0]) * index.wanted
    first = ""
    for each in found:
        if not index.has(each.sample):
            last[index.place(each.sample)] = types.setdefault(each.type, len(types) + 1)
            first = first or f"{each.type}: {each.message}"
    names = ["", *types]
    return Counter(names[each] for each in last if each), first


def _failure(line: bytes) -> dict[str, Any] | None:
    if MARK not in line or not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("error"), dict):
        return None
    return row if isinstance(row.get("id"), str) and isinstance(row.get("repeat"), int) else None


def _as_failed(row: dict[str, Any], sample: Sample, number: int) -> Failed:
    error, timing = row["error"], row.get("timing") or {}
    says = str(error.get("type", "")), str(error.get("message", ""))
    return Failed(sample, number, int(row.get("attempt", 0)), *says, float(timing.get("finished", 0.0)))
