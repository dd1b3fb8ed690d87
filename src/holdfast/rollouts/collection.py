"""All rows of one (environment and version, model, sampling, template), shared by every stage that needs some of them.

Each attempt appends to a part of its own, `parts/<attempt>-<token>.jsonl`, and readers take the union. Repeats and
the list of prompts are not part of a collection's identity, so that more of either owes only the difference. A torn
last line, of a writer that was killed, is owed again; nobody ever writes behind it, and nothing is ever taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.stage import canonical

if TYPE_CHECKING:
    from holdfast.rollouts.row_index import Index
    from holdfast.rollouts.writer import Acknowledge, Durability, Writer

SCHEMA = 1
Row = dict[str, Any]
"""`prompt, response, reward, success, num_steps, schema, id, repeat, seed, usage, timing, attempt, tries, finish,
answer`; a failure has `error: {type, message}` instead of a reward, and stays owed. Where only the grade is missing, it
has the response, too."""


class Sample(NamedTuple):
    """One response that is wanted: the `repeat`-th (from 0) to the prompt `id`."""

    id: str
    repeat: int


class Owed(NamedTuple):
    """A sample without a reward. `has_response`: it needs only to be graded. `failures`: how often it failed before, an
    engine that was gone not counted.
    """

    sample: Sample
    has_response: bool = False
    failures: int = 0


def row_key(*, model: str, sampling: Mapping[str, Any], template: str, **source: Any) -> str:
    """Names a collection; `model` is the digest of the model's contents, `source` what the prompts and the rewards are
    (`environment` and `version`, and what else an environment's identity says).
    """
    identity = {**source, "model": model, "sampling": dict(sampling), "template": template}
    return hashlib.sha256(canonical(identity)).hexdigest()


class Collection:
    """The parts in one directory, and those that this attempt writes: one for each writer that it opens."""

    def __init__(self, parts: Path, attempt: int, token: str, durability: Durability = "group") -> None:
        self.parts = parts
        self._own = f"{attempt:03d}-{token}"
        self._durability: Durability = durability
        self._opened = 0
        self._writer: Writer | None = None

    def index(self, ids: Sequence[str], repeats: int) -> Index:
        """What of `repeats` responses to each prompt is there, now.

        Raises:
            UserError: two prompts have the same id.
        """
        from holdfast.rollouts.row_index import Index

        return Index(self.parts, ids, repeats)

    def owed(self, ids: Sequence[str], repeats: int) -> list[Sample]:
        """What of them is not."""
        return [each.sample for each in self.index(ids, repeats).owed()]

    def writer(self, acknowledge: Acknowledge | None = None) -> Writer:
        """The writer of a part that nobody else writes; close it."""
        from holdfast.rollouts.writer import Writer

        self._opened += 1
        more = f"-{self._opened}" if self._opened > 1 else ""
        return Writer(self.parts / f"{self._own}{more}.jsonl", acknowledge, self._durability)

    def append(self, row: Row) -> None:
        """Record one row, durable when this returns. For many rows take a `writer`."""
        self._writer = self._writer or self.writer()
        self._writer.put(encode(row))
        self._writer.flush()

    def close(self) -> None:
        """Close what `append` writes to."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def encode(row: Row) -> bytes:
    """The line of a row, without its end."""
    from holdfast.rollouts.row_index import encode as encode_json

    return encode_json({"schema": SCHEMA, **row})
