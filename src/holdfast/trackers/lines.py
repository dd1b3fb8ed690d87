"""Reads `metrics.jsonl` while it grows: whole lines only, those of one call together, what is not ours passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.trackers import Row

CHUNK = 1 << 20


class Line(NamedTuple):
    """One value, as it was read; `end` and `offset` count lines and bytes of the file up to and with this one."""

    step: int
    name: str
    value: float
    time: float | None
    attempt: int
    end: int
    offset: int


class Lines:
    """A reader that remembers where it is.

    `count` lines and `offset` bytes are behind it. It has to begin at the start of the file, since which values were
    superseded follows from all before them; the rows that end within the first `skip` lines are not given out.
    """

    def __init__(self, path: Path, skip: int = 0) -> None:
        self.path = path
        self.skip = skip
        self.offset = 0
        self.count = 0
        self._steps: dict[str, set[int]] = {}

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """What was appended since the last time, up to byte `limit`. A torn last line is left for later."""
        while block := self._block(limit):
            yield from self._group(block)

    def _block(self, limit: int | None) -> list[bytes]:
        size = CHUNK
        with open(self.path, "rb") as file:
            while True:
                file.seek(self.offset)
                data = file.read(size if limit is None else min(size, limit - self.offset))
                end = data.rfind(b"\n") + 1
                if end or len(data) < size:
                    break
                size *= 2
        return [line + b"\n" for line in data[: end - 1].split(b"\n")] if end else []

    def _group(self, block: list[bytes]) -> Iterator[Row]:
        group: list[Line] = []
        first: set[str] = set()
        for raw in block:
            self.count += 1
            self.offset += len(raw)
            line = parse(raw, self.count, self.offset)
            if line is None:
                continue
            is_first = self._is_first(line)
            if line.end <= self.skip:
                continue
            if group and not _belongs(line, group):
                yield _row(group, first)
                group, first = [], set()
            group.append(line)
            if is_first:
                first.add(line.name)
        if group:
            yield _row(group, first)

    def _is_first(self, line: Line) -> bool:
        steps = self._steps.setdefault(line.name, set())
        known = line.step in steps
        steps.add(line.step)
        return not known


def parse(raw: bytes, end: int, offset: int) -> Line | None:
    """A line of ours, or None for anything else."""
    try:
        content: dict[str, Any] = json.loads(raw)
        step, name, when = content["step"], content["name"], content.get("time")
        if type(step) is not int or not isinstance(name, str) or isinstance(content["value"], bool):
            return None
        seconds = None if when is None else float(when)
        attempt = int(content.get("attempt") or 0)
        return Line(step, name, float(content["value"]), seconds, attempt, end, offset)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _belongs(line: Line, group: list[Line]) -> bool:
    """Whether a line was written by the same call: those have one time in common, and no name twice."""
    same = (line.step, line.time, line.attempt) == (group[0].step, group[0].time, group[0].attempt)
    return same and line.time is not None and all(line.name != other.name for other in group)


def _row(group: list[Line], first: set[str]) -> Row:
    last = group[-1]
    values = {line.name: line.value for line in group}
    return Row(last.step, values, frozenset(first), last.time, last.attempt, last.end, last.offset)


class Table:
    """What stands after all that was superseded is gone: of each name and step the value of the last attempt."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[int, tuple[int, float, float | None]]] = {}

    def add(self, row: Row) -> None:
        for name, value in row.values.items():
            column = self.cells.setdefault(name, {})
            if row.step not in column or column[row.step][0] <= row.attempt:
                column[row.step] = (row.attempt, value, row.time)

    def last(self) -> dict[str, float]:
        """The value of each name at its highest step."""
        return {name: column[max(column)][1] for name, column in self.cells.items()}

    def by_step(self) -> dict[int, dict[str, tuple[float, float | None]]]:
        """(value, time) by name, for each step in order."""
        steps: dict[int, dict[str, tuple[float, float | None]]] = {}
        for name, column in self.cells.items():
            for step, (_, value, when) in column.items():
                steps.setdefault(step, {})[name] = (value, when)
        return dict(sorted(steps.items()))
