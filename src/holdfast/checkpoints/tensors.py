"""What every format is read into: named tensors whose bytes lie somewhere in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

ITEM_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one element, by the names that safetensors gives to dtypes."""


@dataclass(frozen=True)
class Checked:
    """Bytes of a file that carry a CRC-32 (ZIP's, as `zlib.crc32` has it): `length` of them from `offset` on."""

    file: Path
    offset: int
    length: int
    crc: int


@dataclass(frozen=True)
class Piece:
    """A rectangular part of a tensor: `shape` elements from `starts` on, little-endian in `file` from byte `offset` on.

    Contiguous and row-major, unless `strides` (in elements, one for each axis) says otherwise: a transposed tensor is
    stored as it lay in memory. `checked` are the bytes around it that can be proven sound.
    """

    file: Path
    offset: int
    starts: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    checked: Checked | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor whose bytes are in files; its pieces tile it exactly (`checkpoints.tiling` checks it)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * ITEM_SIZES[self.dtype]

    @property
    def files(self) -> set[Path]:
        return {piece.file for piece in self.pieces}


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a contiguous tensor of this shape."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True)
class Computed:
    """A tensor that is calculated on the way (a merged adapter, for example): `blocks` gives its row-major bytes in
    order, a bounded number at a time.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[bytes]]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * ITEM_SIZES[self.dtype]
