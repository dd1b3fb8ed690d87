"""What metrics need of rows, in columns: of a row its reward, its usage and its times, whatever else it holds.

Rows come prompt by prompt and are looked at once, so a million takes some 35 MB, three quarters of which are given back
once tokens and time are summed up. What has to be sorted is so in place, in runs that are merged: as objects, numbers
take four times as much.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice, pairwise
from statistics import fmean
from typing import Any, NamedTuple

Row = Mapping[str, Any]
RUN = 1 << 15
"""Numbers that are sorted at a time."""
CUT = "length"
"""How a response ended that reached the limit of tokens."""


class Group(NamedTuple):
    """The responses to one prompt. `answers`: equal where the answers are, None where there was none. `right`: how many
    succeeded; of `ended` of them it is known how they ended, of `cut` that it was at the limit of tokens.
    """

    rewards: Sequence[float]
    answers: Sequence[str | None]
    right: int
    ended: int
    cut: int


def group_of(rows: Sequence[Row]) -> Group:
    """Of the rows of one prompt, in the order of repeats."""
    return Group(
        [row["reward"] for row in rows],
        [row.get("answer") for row in rows],
        sum(bool(row.get("success", row["reward"] >= 1.0)) for row in rows),
        sum(bool(row.get("finish")) for row in rows),
        sum(row.get("finish") == CUT for row in rows),
    )


class Recorded:
    """The responses to each prompt that has any, in the order of the prompts."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.is_binary = True
        """Whether every reward is 0 or 1."""
        self.has_answers = False
        self._ids = ids
        self._prompts = array("I")
        self._ends = array("I", [0])
        self._rewards = array("d")
        self._answers = array("I")
        self._counts = tuple(array("I") for _ in range(3))

    def add(self, prompt: int, group: Group) -> None:
        """The responses to the `prompt`-th; those to the prompts before it were added."""
        self._prompts.append(prompt)
        self._rewards.extend(group.rewards)
        self.is_binary = self.is_binary and all(reward in (0, 1) for reward in group.rewards)
        self._add_answers(group.answers)
        for column, count in zip(self._counts, group[2:], strict=True):
            column.append(count)
        self._ends.append(len(self._rewards))

    def __len__(self) -> int:
        """How many prompts have responses."""
        return len(self._prompts)

    @property
    def rewards(self) -> Sequence[float]:
        """Of all responses."""
        return self._rewards

    def groups(self) -> Iterator[tuple[str, Group]]:
        """Id and responses of each prompt."""
        for number, prompt in enumerate(self._prompts):
            start, end = self._ends[number], self._ends[number + 1]
            right, ended, cut = (column[number] for column in self._counts)
            rewards, answers = self._rewards[start:end], self._answers_of(start, end)
            yield self._ids[prompt], Group(rewards, answers, right, ended, cut)

    def _add_answers(self, answers: Sequence[str | None]) -> None:
        """As numbers, which are those of one prompt: nobody compares answers to different ones."""
        if not self.has_answers and any(answer is not None for answer in answers):
            self.has_answers = True
            self._answers.extend(bytes(self._ends[-1]))
        if self.has_answers:
            numbers: dict[str | None, int] = {None: 0}
            self._answers.extend(numbers.setdefault(answer, len(numbers)) for answer in answers)

    def _answers_of(self, start: int, end: int) -> Sequence[str | None]:
        if not self.has_answers:
            return [None] * (end - start)
        return [str(number) if number else None for number in self._answers[start:end]]


class Spent:
    """Tokens and time of all responses, as far as they are known."""

    def __init__(self) -> None:
        self._tokens: dict[str, array[Any]] = {"prompt_tokens": array("I"), "completion_tokens": array("I")}
        self._started = array("d")
        self._finished = array("d")

    def add(self, row: Row) -> None:
        """Those of one response."""
        usage, timing = row.get("usage") or {}, row.get("timing") or {}
        for name, column in self._tokens.items():
            if isinstance(value := usage.get(name), int | float):
                self._tokens[name] = _append(column, value)
        if {"started", "finished"} <= timing.keys():
            self._started.append(timing["started"])
            self._finished.append(timing["finished"])

    def tokens(self) -> dict[str, dict[str, float] | None]:
        """Of prompts and of responses; what they are made of is given back."""
        prompt, completion = (self._tokens.pop(name) for name in ("prompt_tokens", "completion_tokens"))
        return {"prompt": spread(prompt), "completion": spread(completion)}

    def time(self) -> dict[str, Any]:
        """Seconds of the responses, and those in which at least one request was under way: the time between attempts
        does not count. What they are made of is given back.
        """
        busy = self._busy()
        seconds, finished = self._started, self._finished
        self._started = self._finished = array("d")
        for at, end in enumerate(finished):
            seconds[at] = end - seconds[at]
        del finished
        return {"request": spread(seconds), "busy": busy}

    def _busy(self) -> float | None:
        total, until = 0.0, -math.inf
        for started, finished in _merge_spans(self._started, self._finished):
            total += max(0.0, finished - max(started, until))
            until = max(until, finished)
        return total if self._started else None


def _append(column: array[Any], value: float) -> array[Any]:
    """Counts are small; what is none takes a column of another type."""
    try:
        column.append(value)
    except (TypeError, OverflowError):
        column = array("d", column)
        column.append(value)
    return column


def record(rows: Iterable[Row], ids: Sequence[str], repeats: int) -> tuple[Recorded, Spent]:
    """What `rows` say, which are in the order of `ids` and of repeats; repeats beyond `repeats` do not count.

    Raises:
        ValueError: a row is of no prompt of `ids`, or not in that order.
    """
    recorded, spent = Recorded(ids), Spent()
    numbers = enumerate(ids)
    for each, found in groupby(rows, key=lambda row: row["id"]):
        counted = [row for row in found if row["repeat"] < repeats]
        prompt = next((number for number, name in numbers if name == each), None)
        if prompt is None or any(after["repeat"] <= before["repeat"] for before, after in pairwise(counted)):
            raise ValueError(f"rows of prompt {each!r} are not in the order of prompts and repeats")
        if counted:
            recorded.add(prompt, group_of(counted))
        for row in counted:
            spent.add(row)
    return recorded, spent


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, median, 95th percentile (nearest rank) and sum; None of nothing. An array is sorted on the way."""
    if not values:
        return None
    column = values if isinstance(values, array) else array("d", values)
    places = [max(0, math.ceil(share * len(column)) - 1) for share in (0.5, 0.95)]
    p50, p95 = _pick(_merge(column), places)
    return {"mean": fmean(column), "p50": float(p50), "p95": float(p95), "sum": math.fsum(column)}


def _pick(ordered: Iterator[float], places: Sequence[int]) -> list[float]:
    """What is at these places, which are in order."""
    wanted = dict.fromkeys(places)
    found = {at: value for at, value in enumerate(islice(ordered, places[-1] + 1)) if at in wanted}
    return [found[at] for at in places]


def _merge(column: array[Any]) -> Iterator[float]:
    """In order."""
    runs = []
    for start in range(0, len(column), RUN):
        part = slice(start, start + RUN)
        column[part] = array(column.typecode, sorted(column[part]))
        runs.append(memoryview(column)[part])
    return iter(heapq.merge(*runs))


def _merge_spans(started: array[float], finished: array[float]) -> Iterator[tuple[float, float]]:
    """In order; the columns are sorted on the way, run by run."""
    runs = []
    for start in range(0, len(started), RUN):
        part = slice(start, start + RUN)
        pairs = sorted(zip(started[part], finished[part], strict=True))
        started[part], finished[part] = (array("d", (pair[side] for pair in pairs)) for side in (0, 1))
        runs.append(zip(memoryview(started)[part], memoryview(finished)[part], strict=True))
    return heapq.merge(*runs)
