"""Prompt sets: lines of JSON, each the row that a rollout begins with.

A row's id is its `id`, `prompt_id` or `game_id`, otherwise a digest of what it says. Rows are not held: of each there
is its id, its place in the file and 64 bits of its digest, so a set of a million takes about 100 MB beside its ids.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from holdfast.core import near
from holdfast.core.errors import UserError

ID_FIELDS = ("id", "prompt_id", "game_id")
Row = Mapping[str, Any]


class Prompts(Protocol):
    """What is asked: ids that never change their meaning, and the row of each."""

    @property
    def ids(self) -> Sequence[str]: ...

    def row(self, prompt_id: str) -> Row:
        """
        Raises:
            KeyError: there is none of this id.
        """

    def digest(self, prompt_id: str) -> str:
        """Of what the row says, 16 hex digits: another row under the same id is another prompt."""


class OwnPrompts:
    """Rows that are there."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self.ids: Sequence[str] = list(rows)

    def row(self, prompt_id: str) -> Row:
        """See `Prompts`."""
        return self._rows[prompt_id]

    def digest(self, prompt_id: str) -> str:
        """See `Prompts`."""
        return digest_of_row(self._rows[prompt_id])


class PromptSet:
    """The rows of one file, read when they are asked for.

    `ids` are in the order of the file, `content` is the digest of all of it.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file is not there, has no prompts, a line is no JSON object, two prompts have one id.
        """
        self.path = path
        self.ids: list[str] = []
        self._places = array("Q")
        self._lengths = array("L")
        self._digests = array("Q")
        self._numbers: dict[str, int] = {}
        self.content = self._scan()
        if not self.ids:
            raise UserError(f"there are no prompts in {path}", "give a file with a JSON object on each line")
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def row(self, prompt_id: str) -> Row:
        """The row, read from the file.

        Raises:
            KeyError: there is none of this id.
            UserError: the file was changed since.
        """
        number = self._numbers[prompt_id]
        line = os.pread(self._file, self._lengths[number], self._places[number])
        try:
            found: Row = json.loads(line)
        except ValueError:
            found = {}
        if not isinstance(found, dict) or _digest(found) != self._digests[number]:
            raise UserError(
                f"{self.path} changed while it was read: prompt {prompt_id!r} is another one",
                "type the command again: what is owed then is counted anew",
            )
        return found

    def digest(self, prompt_id: str) -> str:
        """See `Prompts`."""
        return f"{self._digests[self._numbers[prompt_id]]:016x}"

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _scan(self) -> str:
        from blake3 import blake3

        hasher, place = blake3(), 0
        try:
            with open(self.path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    hasher.update(line)
                    if line.strip():
                        self._enter(line, number, place)
                    place += len(line)
        except OSError as error:
            close = near.path(self.path)
            raise UserError(
                f"the prompt set cannot be read: {self.path.absolute()}: {error.strerror}",
                f"did you mean `{close}`?" if close else "give a file with a JSON object on each line",
            ) from None
        return str(hasher.hexdigest())

    def _enter(self, line: bytes, number: int, place: int) -> None:
        row, digest = _read(line, number, self.path)
        name = _id_of(row, f"{digest:016x}")
        if name in self._numbers:
            first = self._numbers[name]
            says = "is the same prompt as" if self._digests[first] == digest else f"has the id {name!r}, as has"
            raise UserError(
                f"line {number} of {self.path} {says} prompt {first + 1}",
                "give every prompt an id of its own; to ask one more often, raise `repeats`",
            )
        self._numbers[name] = len(self.ids)
        self.ids.append(name)
        self._places.append(place)
        self._lengths.append(len(line))
        self._digests.append(digest)


def digest_of_row(row: Row) -> str:
    """Of what a row says, 16 hex digits."""
    return f"{_digest(row):016x}"


def _read(line: bytes, number: int, path: Path) -> tuple[dict[str, Any], int]:
    """A row and its digest."""
    where = f"line {number} of {path}"
    try:
        row = json.loads(line.decode("utf-8-sig") if number == 1 else line)
        digest = _digest(row)
    except (ValueError, RecursionError) as error:
        says = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        start = line.strip()[:60].decode("utf-8", "replace")
        raise UserError(f"{where} is not JSON: {says}: {start!r}", "correct that line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is {type(row).__name__}, expected an object", "one JSON object for each prompt")
    return row, digest


def _id_of(row: Row, otherwise: str) -> str:
    for field in ID_FIELDS:
        value = row.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return otherwise


def _digest(row: Any) -> int:
    """
    Raises:
        ValueError: it holds NaN or an infinity, which JSON cannot say.
    """
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
