"""Rollouts that other programs collected, as an artifact that analysis, viewer, rescoring and export take.

Lines are put in the order of prompts and repeats, each with the fields that ours have. What cannot be read is named in
`failures.jsonl` and counts for nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.core.errors import UserError
from holdfast.core.kind import Kind, Params
from holdfast.rollouts import foreign
from holdfast.stages import rollout_files
from holdfast.stages.rescore import read_rows
from holdfast.stages.rollout_files import FAILURES, ROLLOUTS, VIEWS

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.rollouts.collection import Sample


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
        source = inputs["rollouts"]
        places, failures = _survey(source)
        if not places:
            raise UserError(f"there is no rollout in {source}", "a rollout is a line with a reward and a prompt")
        ids = list(dict.fromkeys(sample.id for sample in places))
        order = {each: number for number, each in enumerate(ids)}
        with open(source, "rb") as lines, open(out.path / ROLLOUTS, "w", encoding="utf-8") as file:
            for sample in sorted(places, key=lambda each: (order[each.id], each.repeat)):
                lines.seek(places[sample])
                row = foreign.as_ours(json.loads(lines.readline()), sample)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        with open(out.path / FAILURES, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(each, ensure_ascii=False) + "\n" for each in failures)
        repeats = 1 + max(sample.repeat for sample in places)
        failed = Counter(str(each["type"]) for each in failures)
        rollout_files.write_metrics(read_rows(out.path / ROLLOUTS), ids, repeats, out, {"imported": True}, failed)

    def published(self, params: ImportParams, home: Path) -> None:
        rollout_files.refresh_analysis(home)


def _survey(source: Path) -> tuple[dict[Sample, int], list[dict[str, Any]]]:
    """Where each rollout is, and what counts for nothing. A rollout that is there twice counts once."""
    places: dict[Sample, int] = {}
    failures: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()
    for line in foreign.read_lines(source):
        problem = line.problem or _problem(line.row or {})
        if problem:
            failures.append({"line": line.number, **_describe(line, problem)})
            continue
        assert line.row is not None
        name = foreign.prompt_id(line.row) or ""
        sample = foreign.sample_of(line.row, name, seen)
        if sample in places:
            message = f"line {line.number} is repeat {sample.repeat} of prompt {sample.id!r} once more"
            failures.append({"line": line.number, "id": name, "type": "duplicate", "message": message})
        else:
            places[sample] = line.offset
    return places, failures


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
