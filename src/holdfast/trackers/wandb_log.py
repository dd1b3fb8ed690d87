"""Reads back what W&B wrote offline: the only proof that a row is there, since its writer keeps up to 32 KiB to itself.

The file is a LevelDB-style log: blocks of 32 KiB, records of a 7-byte header (crc32, length, type) and a
`wandb.proto.wandb_internal_pb2.Record`, cut into pieces where it crosses a block.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from holdfast.core import files

BLOCK = 32768
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class RunFile:
    """One `run-<id>.wandb`, read as far as it is whole; `records` goes on from there the next time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = HEADER.size

    def records(self) -> Iterator[bytes]:
        """Serialized records that were added since."""
        with open(self.path, "rb") as file:
            file.seek(self.position - self.position % BLOCK)
            data = file.read()
        base = self.position - self.position % BLOCK
        position, pieces = self.position, b""
        while (found := _piece(data, position - base, base)) is not None:
            kind, piece, end = found
            position = base + end
            pieces = piece if kind in (FULL, FIRST) else pieces + piece
            if kind in (FULL, LAST):
                self.position = position
                yield pieces


def _piece(data: bytes, at: int, base: int) -> tuple[int, bytes, int] | None:
    """(type, bytes, end) of the piece at `at`, None where the file is not whole."""
    left = BLOCK - (base + at) % BLOCK
    if left < HEADER.size:
        at += left
    if at + HEADER.size > len(data):
        return None
    crc, length, kind = HEADER.unpack_from(data, at)
    piece = data[at + HEADER.size : at + HEADER.size + length]
    if kind not in (FULL, FIRST, MIDDLE, LAST) or len(piece) < length:
        return None
    if zlib.crc32(piece, zlib.crc32(bytes([kind]))) != crc:
        return None
    return kind, piece, at + HEADER.size + length


class Offline:
    """All offline segments of one run in a W&B directory."""

    def __init__(self, directory: Path, run_id: str) -> None:
        self.directory = directory
        self.run_id = run_id
        self.found: dict[Path, RunFile] = {}
        self.lines = 0

    def read(self) -> int:
        """How many lines are there: one more than the highest `_step`."""
        for path in self.directory.glob(f"offline-run-*-{self.run_id}/run-{self.run_id}.wandb"):
            for record in self.found.setdefault(path, RunFile(path)).records():
                self.lines = max(self.lines, _lines_of(record))
        return self.lines

    def sync(self) -> None:
        """Wait until all of it is on disk."""
        for path in self.found:
            files.fsync_path(path)


def _lines_of(data: bytes) -> int:
    from wandb.proto.wandb_internal_pb2 import Record

    record = Record.FromString(data)
    return int(record.history.step.num) + 1 if record.WhichOneof("record_type") == "history" else 0
