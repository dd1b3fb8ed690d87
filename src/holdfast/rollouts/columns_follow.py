"""Keeps columns in step with the files that they describe: made in one pass, added to as these grow, made again when a
file is no longer what it was.

A file is what it was when its inode is the same, and either its size and time are, too, or it is longer and both ends
of what was read are as they were. A collection's parts are only ever added to; a line without its end is a row that is
still being written, or a torn one, and is looked at again when there is more of it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from holdfast.core.errors import UserError
from holdfast.rollouts import columns_file
from holdfast.rollouts.columns import Columns, Place

CHUNK_ROWS = 4096
END_BYTES = 4096
LONGEST_LINE = 2**28
BAD_SHOWN = 20
SAVE_ROWS, SAVE_SHARE = 2000, 0.05
"""Columns are saved again when so many rows are new, and so much of all."""


@dataclass(frozen=True)
class Source:
    """Files of rows: those named, and all parts in `directory`, which may become more. `kept` is where the columns are
    kept, None for nowhere. `is_collection`: ours, where a line without its end is no row.
    """

    name: str
    files: tuple[Path, ...] = ()
    directory: Path | None = None
    kept: Path | None = None
    is_collection: bool = False

    def parts(self) -> list[Path]:
        """The files that are there, those in the directory sorted by name."""
        found = [path for path in self.files if path.is_file()]
        if self.directory is not None:
            found += sorted(path for path in self.directory.glob("*.jsonl") if path.is_file())
        return found


@dataclass
class Part:
    """How far a file was read, and how it looked then. `bad` are the first lines that are no rows, counted from 1."""

    path: str
    inode: int = 0
    size: int = 0
    time: int = 0
    read: int = 0
    lines: int = 0
    passed_over: int = 0
    bad: list[int] = field(default_factory=list)
    ends: str = ""
    is_at_end: bool = False


class Follower:
    """`columns` of a source; `generation` grows when they were made again. One thread calls `refresh`, any may read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.generation = 0
        self.notice = ""
        """Why the columns on disk were not used, or could not be written; empty where all is well."""
        self.is_reading = True
        self.columns, self.parts = Columns(), dict[str, Part]()
        self._saved = 0
        self._load()

    @property
    def passed_over(self) -> int:
        """Lines that are no rows."""
        return sum(part.passed_over for part in list(self.parts.values()))

    @property
    def torn(self) -> int:
        """Bytes behind the last line that ended."""
        return sum(max(0, part.size - part.read) for part in list(self.parts.values()) if part.is_at_end)

    @property
    def progress(self) -> float:
        """The share of all bytes that was read, from 0 to 1."""
        there = sum(part.size for part in list(self.parts.values()))
        return min(1.0, sum(part.read for part in list(self.parts.values())) / there) if there else 1.0

    @property
    def is_kept(self) -> bool:
        """Whether the columns on disk are these."""
        return self._saved == self.columns.count

    def bad_lines(self) -> list[tuple[str, int]]:
        """(file name, line) of the first lines that are no rows."""
        return [(Path(part.path).name, line) for part in list(self.parts.values()) for line in part.bad]

    def refresh(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Read what is new; returns whether anything was.

        Raises:
            OSError: a file cannot be read.
        """
        before = (self.generation, self.columns.count, self.passed_over)
        if not all(map(self._is_same, self.parts.values())):
            self._start_again("a file is not what it was")
        self.is_reading = True
        paths = self.source.parts()
        for path in paths:
            if str(path) not in self.parts:
                self.parts[str(path)] = Part(str(path), size=path.stat().st_size)
        for path in paths:
            if not should_stop():
                self._read_on(path, self.parts[str(path)], should_stop)
        self.is_reading = False
        return before != (self.generation, self.columns.count, self.passed_over)

    def save(self, *, even_if_few: bool = False) -> bool:
        """Write the columns beside the rows, when that is worth it; returns whether they were."""
        new = self.columns.count - self._saved
        if self.source.kept is None or not new:
            return False
        if not even_if_few and new < max(SAVE_ROWS, SAVE_SHARE * self.columns.count):
            return False
        try:
            columns_file.save(
                self.source.kept, self.columns, {"parts": [asdict(part) for part in list(self.parts.values())]}
            )
        except OSError as error:
            self.notice = f"the index cannot be kept: {error}"
            return False
        self._saved = self.columns.count
        return True

    def read(self, row: int) -> bytes:
        """The line of a row, without its end.

        Raises:
            IndexError: there is no such row.
            UserError: the file is no longer what it was.
        """
        place = self.columns.place(row)
        paths = list(self.parts)
        if place.part >= len(paths):
            raise self._has_changed(row, "?")
        path = paths[place.part]
        try:
            with open(path, "rb") as file:
                file.seek(place.offset)
                line = file.read(place.size)
        except OSError as error:
            raise UserError(f"row {row} cannot be read: {path}: {error.strerror}", "look at the file") from None
        if not self._is_row(line, row, place):
            raise self._has_changed(row, path)
        return line.rstrip(b"\r\n")

    def _is_row(self, line: bytes, row: int, place: Place) -> bool:
        from holdfast.rollouts.columns_heads import read_head

        head = read_head(line) if len(line) == place.size else None
        if head is None:
            return False
        try:
            return head.prompt == self.columns.prompts.text(int(self.columns.column("prompt")[row]))
        except IndexError:
            return False

    def _has_changed(self, row: int, path: str) -> UserError:
        if path in self.parts:
            self.parts[path].inode = -1  # read again at the next refresh
        return UserError(f"row {row} is not where it was: {path} was changed", "reload the page in a moment")

    def _load(self) -> None:
        if self.source.kept is None:
            return
        try:
            columns, state = columns_file.load(self.source.kept)
            parts = [Part(**each) for each in state["parts"]]
        except (columns_file.NoColumns, KeyError, TypeError) as error:
            self.notice = "" if not self.source.kept.exists() else f"index made again: {error}"
            return
        there = {str(path) for path in self.source.parts()}
        if not all(part.path in there and self._is_same(part) for part in parts):
            self.notice = "index made again: a file is not what it was"
            return
        self.columns, self.parts = columns, {part.path: part for part in parts}
        self._saved = columns.count

    def _is_same(self, part: Part) -> bool:
        """Whether the file is what it was, or that with more behind it."""
        try:
            with open(part.path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != part.inode or status.st_size < part.size:
                    return False
                if status.st_size == part.size and not self.source.is_collection:
                    return status.st_mtime_ns == part.time
                return _ends(file, part.read) == part.ends
        except OSError:
            return False

    def _start_again(self, why: str) -> None:
        self.columns, self.parts = Columns(), {}
        self._saved = 0
        self.generation += 1
        self.notice = f"index made again: {why}"

    def _read_on(self, path: Path, part: Part, should_stop: Callable[[], bool]) -> None:
        number = list(self.parts).index(part.path)
        with open(path, "rb", buffering=2**20) as file:
            status = os.fstat(file.fileno())
            if part.is_at_end and (status.st_size, status.st_mtime_ns) == (part.size, part.time):
                return
            part.inode, part.size, part.time = status.st_ino, status.st_size, status.st_mtime_ns
            part.is_at_end = False
            file.seek(part.read)
            for batch in self._batches(file, part, number):
                self.columns.add(batch)
                if should_stop():
                    break
            else:
                part.is_at_end = True
            part.ends = _ends(file, part.read)

    def _batches(self, file: IO[bytes], part: Part, number: int) -> Iterator[list[Any]]:
        from holdfast.rollouts.columns_heads import read_head

        batch: list[Any] = []
        for line in _lines(file):
            head = read_head(line)
            if not line.endswith(b"\n") and (self.source.is_collection or head is None):
                break
            part.lines += 1
            if head is not None:
                batch.append((head, Place(number, part.read, len(line))))
            elif line.strip():
                part.passed_over += 1
                part.bad += [part.lines] if len(part.bad) < BAD_SHOWN else []
            part.read += len(line)
            if len(batch) >= CHUNK_ROWS:
                yield batch
                batch = []
                time.sleep(0)  # whoever asks for a page goes first
        if batch:
            yield batch


def keep(source: Source) -> Follower:
    """Bring the kept columns of a source up to date: after a collection, or from time to time while it runs.

    Raises:
        OSError: a file cannot be read.
    """
    follower = Follower(source)
    follower.refresh()
    follower.save(even_if_few=True)
    return follower


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines, the last one perhaps without its end; one that is longer than any row ends where that is certain."""
    while line := file.readline(LONGEST_LINE):
        yield line


def _ends(file: IO[bytes], read: int) -> str:
    """A digest of the first and the last bytes of what was read."""
    file.seek(0)
    digest = hashlib.sha256(file.read(min(END_BYTES, read)))
    file.seek(max(0, read - END_BYTES))
    digest.update(file.read(min(END_BYTES, read)))
    return digest.hexdigest()
