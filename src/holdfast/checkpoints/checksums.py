"""Proves while bytes are copied that they are those that were saved: the CRC-32 of the archives they lie in.

Parts of a member are read by several threads, in any order; their checksums are joined when all are there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from holdfast.checkpoints.tensors import ITEM_SIZES, Checked, Piece, Tensor
from holdfast.core.errors import DamagedFile

POLYNOMIAL = 0xEDB88320
ONE = 1 << 31
"""Polynomials over two elements, modulo that of CRC-32, lowest power in the highest bit."""


def combine(first: int, second: int, length: int) -> int:
    """The CRC-32 of two runs of bytes from theirs; the second has `length` bytes."""
    return _multiply(_power_of_x(8 * length), first) ^ second


def _multiply(one: int, other: int) -> int:
    product = 0
    bit = ONE
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ (POLYNOMIAL if other & 1 else 0)
    return product


@lru_cache(maxsize=4096)
def _power_of_x(exponent: int) -> int:
    power, square = ONE, ONE >> 1
    while exponent:
        if exponent & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        exponent >>= 1
    return power


def is_whole(piece: Piece, dtype: str) -> bool:
    """Whether the piece is exactly the bytes that have a checksum, in their order: then it is checked as it is read."""
    checked = piece.checked
    if checked is None or piece.strides or piece.offset != checked.offset:
        return False
    return prod(piece.shape) * ITEM_SIZES[dtype] == checked.length


def list_apart(tensors: Iterable[Tensor]) -> list[Checked]:
    """What must be read once more to be checked: members of which pieces take a part, or in another order."""
    whole: set[Checked] = set()
    apart: dict[Checked, None] = {}
    for tensor in tensors:
        for piece in tensor.pieces:
            if piece.checked and is_whole(piece, tensor.dtype):
                whole.add(piece.checked)
            elif piece.checked:
                apart[piece.checked] = None
    return [checked for checked in apart if checked not in whole]


@dataclass(frozen=True)
class Part:
    """Some bytes of a piece that is a whole member: `length` of them from `offset` of the file on, and their CRC-32."""

    tensor: str
    piece: Piece
    offset: int
    length: int
    crc: int


class Ledger:
    """The checksums of parts, until a whole is there to be compared."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, Piece], list[Part]] = {}
        self._lock = threading.Lock()

    def add(self, part: Part) -> None:
        """Note the checksum of a part; each part once.

        Raises:
            DamagedFile: it was the last one, and the whole is not what was saved.
        """
        checked = part.piece.checked
        assert checked
        with self._lock:
            parts = self._parts.setdefault((part.tensor, part.piece), [])
            parts.append(part)
            if sum(each.length for each in parts) < checked.length:
                return
            del self._parts[part.tensor, part.piece]
        compare(checked, _join(parts))


def _join(parts: list[Part]) -> int:
    joined = 0
    for part in sorted(parts, key=lambda part: part.offset):
        joined = combine(joined, part.crc, part.length)
    return joined


def compare(checked: Checked, crc: int) -> None:
    """
    Raises:
        DamagedFile: this is not the checksum that was saved.
    """
    if crc != checked.crc:
        raise DamagedFile(
            f"{checked.file}: bytes {checked.offset} to {checked.offset + checked.length} are damaged: their CRC-32 is "
            f"{crc:08x}, the saved one {checked.crc:08x}",
            "take another checkpoint, or restore this file from a copy",
        )
