"""Where the members of a ZIP archive lie in a file: PyTorch's archives, whose members are stored as they are.

An archive may be a part of a file (a chunk in a `.distcp` is one), or larger than 4 GiB (ZIP64). None is decompressed.
The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from holdfast.core.errors import DamagedFile, UserError

HEAD = 2048
TAIL = 2048
"""Bytes of an archive's ends that are read at once: of a chunk, that is all but the tensor's own."""
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
MAXIMUM = 0xFFFFFFFF
ENCRYPTED = 0x1
LARGEST_DIRECTORY = 2**30


class Member(NamedTuple):
    """A stored file: its bytes are `size` from `offset` of the file that holds the archive. `crc` is None where the
    writer computed none (`torch.serialization.set_crc32_options(False)`).
    """

    offset: int
    size: int
    crc: int | None


class Window:
    """A part of an open file, its two ends in memory."""

    def __init__(self, fd: int, path: Path, start: int, length: int) -> None:
        self.fd, self.path, self.start, self.length = fd, path, start, length
        self._head = self._fetch(0, min(length, HEAD + TAIL if length <= HEAD + TAIL else HEAD))
        self._tail_at = max(0, length - TAIL)
        self._tail = self._fetch(self._tail_at, length - self._tail_at) if len(self._head) < length else b""

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` of the window on.

        Raises:
            DamagedFile: they are not there.
        """
        if offset < 0 or count < 0 or offset + count > self.length:
            raise DamagedFile(
                f"{self.path}: bytes {self.start + offset} to {self.start + offset + count} belong to an archive that "
                f"ends at {self.start + self.length}"
            )
        if offset + count <= len(self._head):
            return self._head[offset : offset + count]
        if self._tail and offset >= self._tail_at:
            return self._tail[offset - self._tail_at : offset - self._tail_at + count]
        return self._fetch(offset, count)

    def _fetch(self, offset: int, count: int) -> bytes:
        data = os.pread(self.fd, count, self.start + offset)
        if len(data) != count:
            end = os.fstat(self.fd).st_size
            raise DamagedFile(
                f"{self.path}: {end} bytes, expected {self.start + offset + count} at least",
                "the file is truncated, or still being written",
            )
        return data


class _Entry(NamedTuple):
    header: int
    size: int
    crc: int


def list_members(window: Window) -> dict[str, Member]:
    """The members by name, without the archive's own folder (`archive/data/0` is `data/0`).

    Raises:
        DamagedFile: this is no archive, or it is torn.
        UserError: it is compressed or encrypted.
    """
    offset, size, count = _find_directory(window)
    if size > LARGEST_DIRECTORY:
        raise DamagedFile(f"{window.path}: an archive whose directory has {size} bytes")
    entries = _read_directory(window, window.read(offset, size), count)
    members = {}
    for name, entry in entries.items():
        at = _find_data(window, name, entry)
        if at + entry.size > offset:
            raise DamagedFile(f"{window.path}: {name} goes on behind the archive's directory")
        # A writer that computes no checksums writes 0; of bytes that have one it is 0 once in four billion.
        members[name.partition("/")[2]] = Member(window.start + at, entry.size, entry.crc or None)
    return members


def _find_directory(window: Window) -> tuple[int, int, int]:
    """Offset, bytes and number of entries of the central directory."""
    at = window.length - END.size
    if at < 0 or (end := END.unpack(window.read(at, END.size)))[0] != b"PK\5\6":
        raise DamagedFile(
            f"{window.path}: no archive ends at byte {window.start + window.length}",
            "the file is truncated, damaged, or still being written",
        )
    _, _, _, _, count, size, offset, _ = end
    if MAXIMUM not in (size, offset) and count != 0xFFFF:
        return offset, size, count
    if window.read(at - LOCATOR.size, 4) != b"PK\6\7":
        return offset, size, count
    _, _, at64, _ = LOCATOR.unpack(window.read(at - LOCATOR.size, LOCATOR.size))
    end64 = END64.unpack(window.read(at64, END64.size))
    if end64[0] != b"PK\6\6":
        raise DamagedFile(f"{window.path}: the end of an archive of more than 4 GiB is damaged")
    return end64[9], end64[8], end64[7]


def _read_directory(window: Window, directory: bytes, count: int) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    at = 0
    for _ in range(count):
        if at + CENTRAL.size > len(directory) or directory[at : at + 4] != b"PK\1\2":
            raise DamagedFile(f"{window.path}: an archive's directory is damaged at its byte {at}")
        fields = CENTRAL.unpack_from(directory, at)
        flags, method, crc, packed, size = fields[3], fields[4], *fields[7:10]
        name_size, extra_size, comment_size, header = fields[10], fields[11], fields[12], fields[16]
        name_at = at + CENTRAL.size
        extra = directory[name_at + name_size : name_at + name_size + extra_size]
        name = directory[name_at : name_at + name_size].decode(errors="replace")
        size, packed, header = _widen(extra, size, packed, header)
        if method or flags & ENCRYPTED or size != packed:
            raise UserError(
                f"{window.path}: {name} is compressed or encrypted (method {method}); only stored members are read",
                "save the checkpoint without compression",
            )
        if name in entries:
            raise DamagedFile(f"{window.path}: an archive holds {name} twice")
        entries[name] = _Entry(header, size, crc)
        at = name_at + name_size + extra_size + comment_size
    return entries


def _widen(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """The three numbers, those that do not fit 32 bits from the ZIP64 field."""
    values = [size, packed, header]
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            values = [next(wide, value) if value == MAXIMUM else value for value in values]
        at += 4 + length
    return values[0], values[1], values[2]


def _find_data(window: Window, name: str, entry: _Entry) -> int:
    """Where in the window the bytes begin: behind the local header, whose length is its own."""
    header = window.read(entry.header, LOCAL.size)
    signature, _, flags, method, *_, name_size, extra_size = LOCAL.unpack(header)
    found = window.read(entry.header + LOCAL.size, name_size)
    if signature != b"PK\3\4" or method or flags & ENCRYPTED or found.decode(errors="replace") != name:
        raise DamagedFile(f"{window.path}: the header of {name} is damaged, at byte {window.start + entry.header}")
    return entry.header + LOCAL.size + int(name_size) + int(extra_size)
