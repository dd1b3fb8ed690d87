"""Columns on disk: one file, written whole and renamed into place, mapped when it is read.

    magic, length of the header, header (JSON: rows, parts, where each block lies), blocks at multiples of 64 bytes

Checksums find a damaged one. What it says of rows is believed only where the identity, the size and the ends of their
file confirm it; see `columns_follow`.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core import files
from holdfast.rollouts.columns import FIELDS, Columns, numpy_type
from holdfast.rollouts.columns_names import Names

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"holdfast columns 1\n"
SCHEMA = 1
ALIGNMENT = 64
LONGEST_HEADER = 64 * 1024 * 1024


class NoColumns(Exception):
    """There is no file of columns that can be used; the message says why."""


def save(path: Path, columns: Columns, state: Mapping[str, Any]) -> None:
    """Write columns and what they were made of; readers see the old file or this one.

    Raises:
        OSError: it cannot be written.
    """
    count = columns.count
    blocks = dict(_blocks(columns, count))
    body = {"schema": SCHEMA, "count": count, "state": state, "blocks": _lay_out(blocks), "crc": _crc(_pieces(blocks))}
    header = json.dumps(body).encode()
    files.make_directories(path.parent)
    temporary = path.with_name(f"{files.TEMPORARY}{files.new_token()}")
    try:
        with open(temporary, "wb") as file:
            file.write(MAGIC + len(header).to_bytes(8, "little") + zlib.crc32(header).to_bytes(4, "little") + header)
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            for piece in _pieces(blocks):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[Columns, dict[str, Any]]:
    """Columns and what they were made of.

    Raises:
        NoColumns: there is no such file, or it is torn, damaged, or of another version.
    """
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise NoColumns("there are none yet") from None
    except (OSError, ValueError) as error:
        raise NoColumns(f"cannot be read: {error}") from None
    try:
        header, start = _read_header(data)
        if _crc([data[start:]]) != header["crc"]:
            raise ValueError("the checksum is another")
        found = {name: _block(data, start, *place) for name, place in header["blocks"].items()}
        return _assemble(found, int(header["count"])), dict(header["state"])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise NoColumns(f"damaged: {type(error).__name__}: {error}") from None


def _blocks(columns: Columns, count: int) -> Iterator[tuple[str, Any]]:
    for name in FIELDS:
        yield name, columns.column(name)[:count]
    yield "standing", columns.standing()[:count]
    for name, names in (("prompts", columns.prompts), ("failures", columns.failures)):
        blob, starts = names.packed()
        yield f"{name}.blob", blob
        yield f"{name}.starts", starts


def _lay_out(blocks: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(offset behind the header, bytes) of each block; the first one begins at an offset of 0."""
    places, offset = {}, 0
    for name, block in blocks.items():
        size = memoryview(block).nbytes
        places[name] = (offset, size)
        offset += size + -size % ALIGNMENT
    return places


def _pieces(blocks: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """The bytes of all blocks, and what fills the room between them."""
    for block in blocks.values():
        view = memoryview(block)
        if view.nbytes:
            yield view.cast("B")
            yield b"\0" * (-view.nbytes % ALIGNMENT)


def _crc(pieces: Iterable[bytes | memoryview]) -> int:
    found = 0
    for piece in pieces:
        found = zlib.crc32(piece, found)
    return found


def _read_header(data: memoryview) -> tuple[dict[str, Any], int]:
    fixed = len(MAGIC) + 12
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ValueError("not a file of columns, or of another version")
    size = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 8], "little")
    if size > min(LONGEST_HEADER, len(data)):
        raise ValueError(f"a header of {size} bytes in a file of {len(data)}")
    text = bytes(data[fixed : fixed + size])
    if zlib.crc32(text).to_bytes(4, "little") != bytes(data[fixed - 4 : fixed]):
        raise ValueError("the header's checksum is another")
    header = json.loads(text)
    if header["schema"] != SCHEMA:
        raise ValueError(f"schema {header['schema']}, expected {SCHEMA}")
    start = fixed + size
    return header, start + -start % ALIGNMENT


def _block(data: memoryview, start: int, offset: int, size: int) -> memoryview:
    begin, end = start + offset, start + offset + size
    if not start <= begin <= end <= len(data):
        raise ValueError(f"a block ends at {end} in a file of {len(data)} bytes")
    return data[begin:end]


def _assemble(blocks: Mapping[str, memoryview], count: int) -> Columns:
    import numpy as np

    chunk = {name: np.frombuffer(blocks[name], dtype=numpy_type(name)) for name in FIELDS}
    standing = np.frombuffer(blocks["standing"], dtype=np.int8)
    _check_lengths([*chunk.values(), standing], count)
    columns = Columns([chunk], _names(blocks, "prompts"), _names(blocks, "failures"))
    columns.remember_standing(standing)
    return columns


def _names(blocks: Mapping[str, memoryview], name: str) -> Names:
    import numpy as np

    blob, starts = blocks[f"{name}.blob"], np.frombuffer(blocks[f"{name}.starts"], dtype=np.int64)
    if len(starts) and not (starts[0] == 0 and starts[-1] < len(blob) and bool(np.all(np.diff(starts) > 0))):
        raise ValueError(f"the {name} lie nowhere")
    return Names(blob, starts)


def _check_lengths(arrays: Sequence[NDArray[Any]], count: int) -> None:
    lengths = {len(each) for each in arrays}
    if lengths != {count}:
        raise ValueError(f"{count} rows, and columns of {sorted(lengths)}")
