"""Files to columns, in one pass: what each row says, and of each file what was wrong in it, line by line."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from holdfast.core.errors import UserError
from holdfast.evaluation.analysis import formats
from holdfast.evaluation.analysis.busy import Busy
from holdfast.evaluation.analysis.columns import Counts, Numbers, Words
from holdfast.evaluation.analysis.fields import Fields
from holdfast.evaluation.analysis.formats import Format, Layout
from holdfast.evaluation.analysis.lines import Chunk, read_chunks

SHOWN = 20
"""Bad lines of a file that are named."""
NAN = float("nan")
LOOKED_AT = 50
"""Lines of a chunk by which a file may be recognised."""


@dataclass
class Source:
    """A file. `bad` are the first lines that hold no row, and why; `torn` is the number of a last line that a writer
    did not finish; `says` what its first row tells of model and sampling.
    """

    path: Path
    format: Format | None = None
    size: int = 0
    rows: int = 0
    failures: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    bad_lines: int = 0
    torn: int | None = None
    has_repeats: bool = True
    says: dict[str, Any] = field(default_factory=dict)

    def pass_over(self, line: int, why: str) -> None:
        self.bad_lines += 1
        if len(self.bad) < SHOWN:
            self.bad.append((line, why))


class Table:
    """The columns of all files, row by row as they came, and the failures beside them."""

    def __init__(self, by: Sequence[str] = ()) -> None:
        self.sources: list[Source] = []
        self.ids, self.reasons = Words(), Words()
        self.finishes, self.standings = Words(), Words()  # of standings (success, truncated, tries), each may be None
        self.failed_prompt, self.failed_repeat, self.failed_reason = Counts(), Counts(), Counts()
        self.busy = Busy()
        self.fields = Fields(by)
        self.keeps_finished = False
        self._next: defaultdict[int, int] = defaultdict(int)
        self.release()

    def release(self) -> None:
        """Give back the memory of what is by row."""
        self.prompt, self.repeat, self.finish, self.standing = Counts(), Counts(), Counts(), Counts()
        self.tools, self.steps, self.turns = Counts(), Counts(), Counts()
        self.prompt_tokens, self.completion_tokens = Counts(), Counts()
        self.reward, self.seconds, self.finished = Numbers("d"), Numbers("f"), Numbers("d")
        self.answers: array[int] | None = None
        self.by = [Counts() for _ in self.fields.names]

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, rows: Sequence[Any], layout: Layout, ids: Sequence[str], by: Sequence[Sequence[int]]) -> None:
        """Rows that have a reward; `by` are the numbers of the values of each field."""
        numbers = list(map(self.ids.__getitem__, ids))
        self.prompt.extend_plain(numbers)
        self.repeat.extend_plain(formats.repeats(rows, layout) or self._number(numbers))
        self.reward.extend([row.reward for row in rows])
        self.finish.extend_plain(list(map(self.finishes.__getitem__, formats.finishes(rows))))
        self._take_standing(rows)
        self.tools.extend(formats.tool_calls(rows))
        self.steps.extend([row.num_steps for row in rows])
        self.turns.extend([None if row.turns is None else len(row.turns) for row in rows])
        usages = formats.usages(rows)
        self.prompt_tokens.extend([_first(each.prompt_tokens, each.input_tokens) for each in usages])
        self.completion_tokens.extend([_first(each.completion_tokens, each.output_tokens) for each in usages])
        self._take_times([row.timing for row in rows])
        self._take_answers([row.answer for row in rows])
        for column, values in zip(self.by, by, strict=True):
            column.extend_plain(values)

    def take_failures(self, rows: Sequence[Any], layout: Layout, ids: Sequence[str]) -> None:
        """Rows without a reward."""
        numbers = list(map(self.ids.__getitem__, ids))
        self.failed_prompt.extend_plain(numbers)
        self.failed_repeat.extend_plain(formats.repeats(rows, layout) or [0] * len(rows))
        self.failed_reason.extend_plain([self.reasons[formats.failure(row)] for row in rows])

    def _number(self, prompts: Iterable[int]) -> list[int]:
        """The place of each row among those of its prompt."""
        found = []
        for prompt in prompts:
            found.append(self._next[prompt])
            self._next[prompt] += 1
        return found

    def _take_standing(self, rows: Sequence[Any]) -> None:
        """What has few values is numbered together."""
        tries = formats.tries(rows)
        found = [(row.success, row.truncated, tried) for row, tried in zip(rows, tries, strict=True)]
        self.standing.extend_plain(list(map(self.standings.__getitem__, found)))

    def _take_times(self, timings: Sequence[formats.Timing | None]) -> None:
        spans = [_span(each) for each in timings]
        self.seconds.extend([NAN if span is None else span[1] - span[0] for span in spans])
        self.busy.add([span for span in spans if span is not None])
        if self.keeps_finished:
            self.finished.extend([NAN if span is None else span[1] for span in spans])

    def _take_answers(self, answers: Sequence[str | None]) -> None:
        if self.answers is None:
            if not any(answer is not None for answer in answers):
                return
            self.answers = array("q", bytes(8 * (len(self.reward) - len(answers))))
        self.answers.extend([0 if answer is None else _digest(answer) for answer in answers])


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def _span(timing: formats.Timing | None) -> tuple[float, float] | None:
    if timing is None or (started := timing.started) is None or (finished := timing.finished) is None:
        return None
    return (started, finished) if started <= finished else None


def _digest(answer: str) -> int:
    """Of equal answers equal, never 0, the same on every machine."""
    digest = hashlib.blake2b(answer.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True) or 1


def read(paths: Sequence[Path], by: Sequence[str] = ()) -> Table:
    """Everything that the files say.

    Raises:
        UserError: a file cannot be read, or one that is not empty has no row of a known format.
    """
    table = Table(by)
    table.keeps_finished = len(paths) > 1
    for path in paths:
        table.sources.append(_Reader(path, table).read())
    return table


class _Reader:
    """One file on its way into the table."""

    def __init__(self, path: Path, table: Table) -> None:
        self._table = table
        self._source = Source(path)
        self._layout: Layout | None = None
        self._decoder: msgspec.json.Decoder[Any] | None = None

    def read(self) -> Source:
        try:
            self._source.size = self._source.path.stat().st_size
            for chunk in read_chunks(self._source.path):
                self._take(chunk)
        except OSError as error:
            says = f"{self._source.path} cannot be read: {error.strerror}"
            raise UserError(says, "name a file of rollouts, or a directory that has one") from None
        if self._layout is None and self._source.bad_lines:
            line, why = self._source.bad[0]
            raise UserError(
                f"{self._source.path} holds no rollouts: line {line}: {why}",
                "rows of Holdfast, of NeMo Gym, or {prompt, response, reward, success, num_steps}",
            )
        return self._source

    def _take(self, chunk: Chunk) -> None:
        if chunk.too_long:
            self._source.pass_over(chunk.first, "a line of more than 64 MiB")
            return
        if self._layout is None:
            self._recognise(chunk)
        if chunk.is_torn or not self._take_at_once(chunk):
            self._take_lines(chunk)

    def _recognise(self, chunk: Chunk) -> None:
        for line in chunk.data.splitlines()[:LOOKED_AT]:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            layout = formats.recognise(row) if isinstance(row, dict) else None
            if layout is not None:
                self._layout = layout
                self._decoder = msgspec.json.Decoder(layout.row)
                self._source.format, self._source.has_repeats = layout.format, layout.has_repeats
                self._source.says = _describe(row)
                return

    def _take_at_once(self, chunk: Chunk) -> bool:
        """Whether all lines are sound rows with a reward, which is so of nearly all chunks."""
        if self._layout is None or self._decoder is None:
            return False
        try:
            rows = self._decoder.decode_lines(chunk.data)
            if len(rows) != chunk.lines or not formats.are_sound(rows, self._layout):
                return False
            ids = formats.prompt_ids(rows, self._layout)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        by = self._table.fields.of_chunk(chunk.data, len(rows)) if self._table.by else []
        self._table.take(rows, self._layout, ids, by)
        self._source.rows += len(rows)
        return True

    def _take_lines(self, chunk: Chunk) -> None:
        good: list[tuple[Any, str, bytes]] = []
        failed: list[tuple[Any, str]] = []
        for number, line in enumerate(chunk.data.split(b"\n"), chunk.first):
            if not line.strip():
                continue
            try:
                row, prompt = self._decode(line)
            except ValueError as error:
                self._refuse(number, str(error), chunk)
                continue
            if chunk.is_torn and self._layout and self._layout.format is Format.HOLDFAST:
                self._source.torn = number  # whole by chance: its writer never said so, and it is owed
            elif row.reward is None:
                failed.append((row, prompt))
            else:
                good.append((row, prompt, line))
        self._enter(good, failed)

    def _enter(self, good: Sequence[tuple[Any, str, bytes]], failed: Sequence[tuple[Any, str]]) -> None:
        if self._layout is None:
            return
        by = self._table.fields.of_lines([line for _, _, line in good]) if self._table.by else []
        self._table.take([row for row, _, _ in good], self._layout, [prompt for _, prompt, _ in good], by)
        self._table.take_failures([row for row, _ in failed], self._layout, [prompt for _, prompt in failed])
        self._source.rows += len(good)
        self._source.failures += len(failed)

    def _refuse(self, line: int, why: str, chunk: Chunk) -> None:
        if chunk.is_torn:
            self._source.torn = line
        else:
            self._source.pass_over(line, why)

    def _decode(self, line: bytes) -> tuple[Any, str]:
        """The row of one line and the id of its prompt.

        Raises:
            ValueError: why there is none.
        """
        if self._layout is None or self._decoder is None:
            raise ValueError("no row of a format that is known here")
        try:
            row = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            row = formats.mend(line, self._layout)
        if why := formats.problem(row):
            raise ValueError(why)
        return row, formats.prompt_ids([row], self._layout)[0]


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a foreign row says of its agent, model and sampling."""
    found: dict[str, Any] = {}
    for outer, names in (
        ("agent_ref", ("name",)),
        ("response", ("model",)),
        ("responses_create_params", ("model", "temperature", "top_p", "max_output_tokens")),
    ):
        inner = row.get(outer)
        if isinstance(inner, dict):
            found |= {
                f"{outer}.{name}": inner[name] for name in names if isinstance(inner.get(name), str | int | float)
            }
    return found
