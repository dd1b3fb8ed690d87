"""The pieces of a tensor as runs of the whole, counted row-major: from any element on, what lies where.

A piece of a row-sharded tensor is one run; one of a column-sharded tensor is many short ones, evenly spread.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import prod

from holdfast.checkpoints import checksums, tiling
from holdfast.checkpoints.tensors import ITEM_SIZES, Piece, Tensor, row_major
from holdfast.core.errors import UserError

MOST_COLUMNS = 2**20


@dataclass(frozen=True)
class Runs:
    """A piece as runs of the whole, each `length` elements, counted row-major over `sizes`; all in elements."""

    piece: Piece
    is_whole: bool
    first: int
    length: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def count(self) -> int:
        return prod(self.sizes)

    @property
    def end(self) -> int:
        return self.start(self.count - 1) + self.length

    def start(self, number: int) -> int:
        """Where in the whole the run of this number begins."""
        at = self.first
        for size, step in zip(reversed(self.sizes), reversed(self.steps), strict=True):
            number, index = divmod(number, size)
            at += index * step
        return at

    def touching(self, first: int, end: int) -> tuple[int, int]:
        """The numbers of the runs that have elements in a part of the whole: from, and up to."""
        if not self.sizes:
            return (0, 1) if self.first < end and first < self.first + self.length else (0, 0)
        if len(self.sizes) == 1:
            (count,), (step,) = self.sizes, self.steps
            low = min(max(0, (first - self.first - self.length) // step + 1), count)
            return low, min(max(low, -((self.first - end) // step)), count)
        numbers = range(self.count)
        low = bisect_right(numbers, first - self.length, key=self.start)
        return low, bisect_left(numbers, end, lo=low, key=self.start)

    def extent(self, numbers: tuple[int, int], part: tuple[int, int], size: int) -> tuple[int, int]:
        """Where in the piece's file those elements of these runs lie that a part of the whole has: offset and bytes."""
        low, high = numbers
        first, end = part
        skipped = max(0, first - self.start(low))
        until = (high - 1) * self.length + min(self.length, end - self.start(high - 1))
        start = low * self.length + skipped
        return self.piece.offset + start * size, (until - start) * size


def _make_runs(piece: Piece, shape: tuple[int, ...], dtype: str) -> Runs:
    steps = row_major(shape)
    length, axis = 1, len(shape)
    while axis and (axis == len(shape) or piece.shape[axis] == shape[axis]):
        axis -= 1
        length *= piece.shape[axis]
    outer: list[tuple[int, int]] = []
    for size, step in zip(piece.shape[:axis], steps, strict=False):
        if outer and outer[-1][1] == size * step:
            outer[-1] = (outer[-1][0] * size, step)
        elif size > 1:
            outer.append((size, step))
    first = sum(start * step for start, step in zip(piece.starts, steps, strict=True))
    whole = checksums.is_whole(piece, dtype)
    return Runs(piece, whole, first, length, tuple(size for size, _ in outer), tuple(step for _, step in outer))


def _columns(piece: Piece, dtype: str) -> Iterator[Piece]:
    """A piece that is stored with other strides, as contiguous ones that are one element wide but along one axis.

    Raises:
        UserError: they would be too many.
    """
    if not piece.strides:
        yield piece
        return
    along = next((axis for axis, stride in enumerate(piece.strides) if stride == 1 and piece.shape[axis] > 1), None)
    others = [range(1 if axis == along else size) for axis, size in enumerate(piece.shape)]
    if prod(map(len, others)) > MOST_COLUMNS:
        raise UserError(f"{piece.file}: a tensor of shape {list(piece.shape)} with strides {list(piece.strides)}")
    shape = tuple(size if axis == along else 1 for axis, size in enumerate(piece.shape))
    for index in product(*others):
        at = sum(i * stride for i, stride in zip(index, piece.strides, strict=True)) * ITEM_SIZES[dtype]
        starts = tuple(start + i for start, i in zip(piece.starts, index, strict=True))
        yield replace(piece, offset=piece.offset + at, starts=starts, shape=shape, strides=())


@dataclass(frozen=True)
class Prepared:
    """A tensor whose pieces were found to tile it, ready to be read at any element."""

    tensor: Tensor
    runs: tuple[Runs, ...]
    firsts: tuple[int, ...]
    ends: tuple[int, ...]
    """The highest end of each of the runs and those before it."""
    is_direct: bool
    """Whether each piece is one run of the whole, and none carries a checksum."""

    def touching(self, first: int, end: int) -> tuple[Runs, ...]:
        """The pieces with elements in this part of the whole, in the order of their first."""
        return self.runs[bisect_right(self.ends, first) : bisect_left(self.firsts, end)]


def prepare(tensor: Tensor) -> Prepared:
    """
    Raises:
        DamagedFile: its pieces do not tile it.
    """
    tiled = tiling.check(tensor)
    pieces = [column for piece in tiled.pieces for column in _columns(piece, tensor.dtype)]
    runs = sorted((_make_runs(piece, tensor.shape, tensor.dtype) for piece in pieces), key=lambda each: each.first)
    is_direct = all(not each.sizes and each.piece.checked is None for each in runs)
    ends = tuple(accumulate((each.end for each in runs), max))
    return Prepared(tiled, tuple(runs), tuple(each.first for each in runs), ends, is_direct)
