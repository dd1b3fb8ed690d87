"""A file as chunks of whole lines, in constant memory, however long a line is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHUNK = 1 << 18
"""Bytes read at a time: larger ones fall out of the processor's cache and are a third slower to decode."""
LONGEST = 64 << 20
"""Bytes of a line; a longer one is passed over, so that a file without line ends cannot fill the memory."""


class Chunk(NamedTuple):
    """`lines` lines that end, the first of which has the number `first` (from 1). `is_torn`: the last line of the file,
    which does not end. `too_long`: one line, of which `data` is empty.
    """

    data: bytes
    first: int
    lines: int
    is_torn: bool = False
    too_long: bool = False


def read_chunks(path: Path, longest: int = LONGEST) -> Iterator[Chunk]:
    """The whole file.

    Raises:
        OSError: it cannot be read.
    """
    line, rest, is_skipping = 1, bytearray(), False
    with open(path, "rb", buffering=0) as file:
        while block := file.read(CHUNK):
            if is_skipping:
                _, end, block = block.partition(b"\n")
                if not end:
                    continue
                is_skipping, line = False, line + 1
            if at := block.rfind(b"\n") + 1:
                data = rest + block[:at] if rest else block[:at]
                count = data.count(b"\n")
                yield Chunk(bytes(data), line, count)
                line, rest = line + count, bytearray(block[at:])
            else:
                rest += block
            if len(rest) > longest:
                yield Chunk(b"", line, 1, too_long=True)
                rest, is_skipping = bytearray(), True
    if rest:
        yield Chunk(bytes(rest), line, 1, is_torn=True)
