"""How far a tracker came: byte offset, number of lines, and digests that tell the file from another one.

The cursor is replaced after the destination has what it says; one that is behind costs a second look, never a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.errors import DamagedFile
from holdfast.trackers import Mark

HEAD = 4096
TAIL = 256


@dataclass(frozen=True)
class Cursor:
    """`head` is the digest of the file's first line, `tail` of the bytes before `offset`. `settled`: the destination
    was closed when all was there.
    """

    head: str = ""
    tail: str = ""
    offset: int = 0
    lines: int = 0
    generation: int = 1
    settled: bool = False
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mark(self) -> Mark:
        return Mark(self.lines, self.state)

    def fits(self, path: Path) -> bool:
        """Whether the file is still the one that this cursor is about."""
        if not self.head:
            return True
        return head_of(path) == self.head and _tail_of(path, self.offset) == self.tail

    def again(self) -> Cursor:
        """The cursor of a fresh result, which begins at line 0."""
        return Cursor(generation=self.generation + 1)

    def advanced(self, path: Path, offset: int, mark: Mark, *, settled: bool) -> Cursor:
        """After the destination was seen to have `mark.lines`, which end at `offset`."""
        tail = _tail_of(path, offset)
        return replace(self, tail=tail, offset=offset, lines=mark.lines, state=dict(mark.state), settled=settled)


def read(path: Path) -> Cursor:
    """The cursor in a file; a new one where there is none, or one that is damaged: the destination knows better.

    Raises:
        UnreadableFile: it is there, and not for us.
    """
    try:
        content = files.read_or_none(path, "cursor")
        return Cursor(**{name: value for name, value in content.items() if name != "schema"}) if content else Cursor()
    except (DamagedFile, TypeError):
        return Cursor()


def write(path: Path, cursor: Cursor) -> None:
    files.make_directories(path.parent)
    files.replace(path, files.encode(asdict(cursor)))


def head_of(path: Path) -> str:
    """Digest of the first line, empty while there is none: lines carry their time, so no two files begin alike."""
    try:
        with open(path, "rb") as file:
            line = file.readline(HEAD)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return _digest(line) if line.endswith(b"\n") or len(line) == HEAD else ""


def _tail_of(path: Path, offset: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, offset - TAIL))
        return _digest(file.read(min(TAIL, offset)))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
