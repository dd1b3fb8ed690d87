"""Rollouts that other programs collected, as an artifact that analysis, viewer, rescoring and export take.

Lines are put in the order of prompts and repeats, each with the fields that ours have. What cannot be read is named in
`failures.jsonl` and counts for nothing.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.core.errors import UserError
from holdfast.core.kind import Kind, Params
from holdfast.evaluation import published
from holdfast.rollouts import foreign
from holdfast.rollouts.collection import Sample
from holdfast.stages import rollout_files
from holdfast.stages.rollout_files import FAILURES, ROLLOUTS, VIEWS

if TYPE_CHECKING:
    from holdfast.core.output import Output

FAR = 4096
"""The first repeat that has no bit of its own."""


class ImportParams(Params):
    """Nothing is asked: what is taken in is all there is to say."""


class ImportRollouts(Kind):
    name = "import_rollouts"
    has_inner = False
    inputs = ("rollouts",)
    loose: ClassVar[tuple[str, ...]] = VIEWS
    Params = ImportParams

    def home(self, name: str) -> str:
        return f"rollouts/{name}"

    def run(self, params: ImportParams, inputs: Mapping[str, Path], out: Output) -> None:
        ids, repeats, failed = _write(inputs["rollouts"], out)
        rows = published.read(out.path / ROLLOUTS)
        rollout_files.write_metrics(rows, ids, repeats, out, {"imported": True}, failed)

    def published(self, params: ImportParams, home: Path) -> None:
        rollout_files.refresh_analysis(home)


def _write(source: Path, out: Output) -> tuple[list[str], int, Counter[str]]:
    """Write rows and failures. Returns the prompts, the repeats of one at most, and how many lines failed, by type.

    Raises:
        UserError: there is no rollout.
    """
    places, failed = _survey(source, out.path / FAILURES)
    if not places:
        raise UserError(f"there is no rollout in {source}", "a rollout is a line with a reward and a prompt")
    with open(source, "rb") as lines, open(out.path / ROLLOUTS, "w", encoding="utf-8") as file:
        for sample, offset in places.in_order():
            lines.seek(offset)
            row = foreign.as_ours(json.loads(lines.readline()), sample)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return places.ids, places.repeats, failed


class Places:
    """Where in a file each rollout is: some 24 bytes for each beside the ids of the prompts."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._masks: list[int] = []
        self._far: set[Sample] = set()
        self._prompts = array("I")
        self._repeats = array("Q")
        self._offsets = array("Q")

    @property
    def ids(self) -> list[str]:
        """Of the prompts, in the order in which they come."""
        return list(self._numbers)

    @property
    def repeats(self) -> int:
        """How many there are of a prompt at most, those counted that are not there."""
        return 1 + max(self._repeats)

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, sample: Sample, offset: int) -> bool:
        """Returns False for a rollout that is there already: the first place counts."""
        if sample.id not in self._numbers:
            self._numbers[sample.id] = len(self._masks)
            self._masks.append(0)
        number = self._numbers[sample.id]
        if self._is_known(sample, number):
            return False
        self._prompts.append(number)
        self._repeats.append(sample.repeat)
        self._offsets.append(offset)
        return True

    def in_order(self) -> Iterator[tuple[Sample, int]]:
        """Each with its place, by prompt and repeat."""
        counts = array("I", [0]) * len(self._masks)
        for number in self._prompts:
            counts[number] += 1
        starts = array("I", accumulate(counts, initial=0))
        following, order = starts[:], array("I", [0]) * len(self)
        for at, number in enumerate(self._prompts):
            order[following[number]] = at
            following[number] += 1
        for name, (start, end) in zip(self._numbers, pairwise(starts), strict=True):
            for at in sorted(order[start:end], key=self._repeats.__getitem__):
                yield Sample(name, self._repeats[at]), self._offsets[at]

    def _is_known(self, sample: Sample, number: int) -> bool:
        """Whether it is, and from now on."""
        if sample.repeat >= FAR:
            before = len(self._far)
            self._far.add(sample)
            return len(self._far) == before
        bit = 1 << sample.repeat
        is_known = bool(self._masks[number] & bit)
        self._masks[number] |= bit
        return is_known


def _survey(source: Path, failures: Path) -> tuple[Places, Counter[str]]:
    """Where each rollout is, and how many lines count for nothing, by type; `failures` gets a line for each. A rollout
    that is there twice counts once.
    """
    places = Places()
    failed: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with open(failures, "w", encoding="utf-8") as file:
        for line in foreign.read_lines(source):
            if failure := _enter(line, places, seen):
                failed[str(failure["type"])] += 1
                file.write(json.dumps(failure, ensure_ascii=False) + "\n")
    return places, failed


def _enter(line: foreign.Line, places: Places, seen: Counter[str]) -> dict[str, Any] | None:
    """Returns what is wrong with a line, if anything is."""
    problem = line.problem or _problem(line.row or {})
    if problem:
        return {"line": line.number, **_describe(line, problem)}
    assert line.row is not None
    name = foreign.prompt_id(line.row) or ""
    sample = foreign.sample_of(line.row, name, seen)
    if places.add(sample, line.offset):
        return None
    message = f"line {line.number} is repeat {sample.repeat} of prompt {sample.id!r} once more"
    return {"line": line.number, "id": name, "type": "duplicate", "message": message}


def _problem(row: Mapping[str, Any]) -> str:
    if not foreign.has_reward(row):
        return "has no reward"
    return "" if foreign.prompt_id(row) else "does not say which prompt it is of"


def _describe(line: foreign.Line, message: str) -> dict[str, str]:
    """The type and the words of a failure, as the row says them where it does."""
    row = line.row or {}
    error = row.get("error")
    named = row.get("_ng_failure_class") or (error.get("type") if isinstance(error, Mapping) else error)
    kind = str(named) if named else "unreadable" if line.row is None else "no_reward"
    words = message if line.row is None else f"line {line.number} {message}"
    return {"type": kind, "message": words}
