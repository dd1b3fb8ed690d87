"""What of a collection is owed: how many, which, and why. Read from its rows; nothing is written, nobody asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import kind
from holdfast.core.columns import align
from holdfast.core.errors import UserError
from holdfast.core.plan import Reader
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.rollouts import failures
from holdfast.rollouts.collection import Owed, Sample
from holdfast.rollouts.row_index import Index
from holdfast.stages import asking
from holdfast.stages.problems import Problems

NEVER = "never tried"
UNGRADED = "has a response without a grade"
KINDS = ("rollouts", "rollout_slice")


@dataclass(frozen=True)
class PromptOwed:
    """What one prompt owes: its repeats, and why, as often as it is so."""

    id: str
    repeats: tuple[int, ...]
    reasons: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "owed": list(self.repeats), "reasons": dict(self.reasons)}


@dataclass(frozen=True)
class Owing:
    """How a collection stands; `given_up` is what of the owed nobody tries again by itself."""

    name: str
    wanted: int
    done: int
    repeats: int
    given_up: int
    prompts: tuple[PromptOwed, ...]

    @property
    def owed(self) -> int:
        return self.wanted - self.done

    @property
    def reasons(self) -> Counter[str]:
        """Of all that is owed."""
        found: Counter[str] = Counter()
        for each in self.prompts:
            found.update(each.reasons)
        return found

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "wanted": self.wanted,
            "done": self.done,
            "owed": self.owed,
            "given_up": self.given_up,
            "reasons": dict(self.reasons.most_common()),
            "prompts": [each.as_dict() for each in self.prompts],
        }


def look(record: Record, store: Store) -> Owing:
    """How the collection of a stage stands.

    Raises:
        UserError: the stage collects no rollouts, or its model is not there yet, so that nobody knows which rows count.
    """
    params, problems, parts = _collection(record, store)
    ids = problems.ids()
    if record.stage.kind == "rollout_slice":
        from holdfast.stages.rollout_slice import take

        ids = take(ids, params.slice)
    with closing(Index(parts, ids, params.repeats)) as index:
        prompts = tuple(_by_prompt(index, _last_failures(index, parts), params.attempts))
        return Owing(record.name, index.wanted, index.done, params.repeats, index.given_up(params.attempts), prompts)


def rows_of(record: Record, store: Store) -> Path:
    """Where the rows of a stage are: in its home once it is published, before that in its collection.

    Raises:
        UserError: as `look`.
    """
    home = store.home(record)
    if home.is_dir() or record.stage.kind not in KINDS:
        return home
    return _collection(record, store)[2]


def _collection(record: Record, store: Store) -> tuple[Any, Problems, Path]:
    if record.stage.kind not in KINDS:
        raise UserError(f"`{record.name}` is a stage of kind {record.stage.kind}", "name a collection of rollouts")
    params = kind.load(record.stage.kind).parse(record.stage.params, record.placement)
    problems = Problems(params)
    return params, problems, store.collections / problems.collection_key(_fingerprint(record, params, store)) / "parts"


def _fingerprint(record: Record, params: Any, store: Store) -> str:
    digests = {}
    for name, ref in record.stage.inputs.items():
        digest = Reader(store).digest(ref)
        if digest is None:
            raise UserError(f"input {name} of `{record.name}` is not there yet", f"holdfast why {record.name}")
        digests[name] = digest
    return asking.fingerprint_of(params, digests)


def _last_failures(index: Index, parts: Any) -> dict[Sample, str]:
    found = failures.read(parts, index.ids, index.repeats)
    return {each.sample: each.type for each in found if not index.has(each.sample)}


def _by_prompt(index: Index, last: Mapping[Sample, str], attempts: int) -> Iterator[PromptOwed]:
    found: dict[str, list[Owed]] = {}
    for each in index.owed():
        found.setdefault(each.sample.id, []).append(each)
    for prompt in index.ids:
        if owed := found.get(prompt):
            why = Counter(_why(each, last, attempts) for each in owed)
            yield PromptOwed(prompt, tuple(sorted(each.sample.repeat for each in owed)), dict(why))


def _why(owed: Owed, last: Mapping[Sample, str], attempts: int) -> str:
    type_ = last.get(owed.sample)
    if type_ is None:
        return NEVER
    if owed.failures >= attempts:
        return f"given up after {owed.failures} failures, the last: {type_}"
    return f"{UNGRADED}: {type_}" if owed.has_response else f"failed, the last time: {type_}"


def lines(found: Owing, most: int = 20) -> list[str]:
    """For a person: how many, why, and the first prompts that owe something."""
    said = [f"{found.name}: {found.done:,} of {found.wanted:,} rollouts done, {found.owed:,} owed"]
    if not found.owed:
        return said
    said += [f"{count:9,}  {reason}" for reason, count in found.reasons.most_common()]
    rows = [("prompt", "owed", "repeats")]
    rows += [
        (each.id, f"{len(each.repeats)} of {found.repeats}", ranges(each.repeats)) for each in found.prompts[:most]
    ]
    more = len(found.prompts) - most
    return [*said, "", *align(rows), *([f"and {more:,} prompts more: --json has all"] if more > 0 else [])]


def ranges(numbers: tuple[int, ...]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, each)) for each in found)
