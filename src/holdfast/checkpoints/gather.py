"""Reads elements of a tensor in row-major order, wherever its pieces lie.

A piece of a row-sharded tensor is one run of the whole; a piece of a column-sharded one is many short runs, which lie
one behind the other in its file. So a block of the whole is a few large reads, and the runs are put in place in memory.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, product
from math import prod
from pathlib import Path
from typing import Literal

from zlib_ng import zlib_ng

from holdfast.checkpoints import checksums, tiling, torch_file
from holdfast.checkpoints.checksums import Ledger, Part
from holdfast.checkpoints.tensors import ITEM_SIZES, Checked, Piece, Tensor, row_major
from holdfast.core.errors import DamagedFile, UserError

BLOCK = 2**20
"""Bytes that are read, checked and written at once: they stay in the processor's cache."""
NARROW = 64
"""Elements of a run below which runs are put in place by columns."""
IOV_MAX = 1024
"""Places that one read may fill: https://man7.org/linux/man-pages/man2/readv.2.html."""
MOST_PLACES = 32
"""Sets of places that are kept, a hundred KB each."""
MOST_OPEN = 64
MOST_COLUMNS = 2**20
FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


class OpenFiles:
    """Descriptors of one thread's files, a bounded number of them: a checkpoint may have thousands."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def get(self, path: Path) -> int:
        """A descriptor for reading.

        Raises:
            DamagedFile: the file is not there.
        """
        fd = self._open.get(path)
        if fd is None:
            if len(self._open) >= MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[path] = torch_file.open_file(path)
        return fd

    def read_into(self, path: Path, offset: int, buffer: memoryview) -> None:
        """Fill the buffer.

        Raises:
            DamagedFile: the file ends before.
        """
        fd = self.get(path)
        at = 0
        while at < len(buffer):
            count = os.preadv(fd, [buffer[at:]], offset + at)
            if not count:
                raise ends_early(path, fd, offset + len(buffer))
            at += count

    def expect(self, path: Path, offset: int, count: int) -> None:
        """Let the kernel read these bytes from the disk from now on. A hint."""
        if sys.platform == "linux":
            os.posix_fadvise(self.get(path), offset, count, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def ends_early(path: Path, fd: int, expected: int) -> DamagedFile:
    return DamagedFile(
        f"{path}: it became shorter while it was read: {os.fstat(fd).st_size} bytes, expected {expected} at least"
    )


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


class Sums:
    """Running checksums of one pass over a part of a tensor, of each piece that is a whole member."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        self._parts: dict[Piece, tuple[int, int, int]] = {}

    def add(self, piece: Piece, offset: int, data: memoryview) -> None:
        first, length, crc = self._parts.get(piece, (offset, 0, 0))
        self._parts[piece] = (first, length + len(data), zlib_ng.crc32(data, crc))

    def hand_over(self, ledger: Ledger) -> None:
        for piece, (first, length, crc) in self._parts.items():
            ledger.add(Part(self.tensor, piece, first, length, crc))


def expect(files: OpenFiles, prepared: Prepared, first: int, end: int) -> None:
    """Have the elements from `first` to `end` brought into memory meanwhile.

    Raises:
        DamagedFile: a file is missing.
    """
    size = ITEM_SIZES[prepared.tensor.dtype]
    for runs in prepared.touching(first, end):
        low, high = runs.touching(first, end)
        if low < high:
            files.expect(runs.piece.file, *_extent(runs, (low, high), (first, end), size))


class _Places:
    """Evenly spread parts of a buffer, in groups that one call may fill. They are the same for most blocks of a tensor,
    and kept as long as the buffer is.
    """

    def __init__(self) -> None:
        self._buffer: object = None
        self._kept: dict[tuple[int, ...], list[list[memoryview]]] = {}

    def get(self, buffer: memoryview, start: int, end: int, step: int, length: int) -> list[list[memoryview]]:
        """`length` bytes every `step`, from `start` up to `end`."""
        if self._buffer is not buffer.obj or len(self._kept) > MOST_PLACES:
            self._buffer = buffer.obj
            self._kept.clear()
        key = (start, end, step, length)
        if key not in self._kept:
            views = [buffer[at : at + length] for at in range(start, end, step)]
            self._kept[key] = [views[at : at + IOV_MAX] for at in range(0, len(views), IOV_MAX)]
        return self._kept[key]


class BlockReader:
    """Reads blocks of tensors for one thread; `sums` collects checksums of what is read, in ascending order."""

    def __init__(self, files: OpenFiles) -> None:
        self.files = files
        self._scratch = bytearray()
        self._places = _Places()

    def read(self, prepared: Prepared, first: int, buffer: memoryview, sums: Sums | None = None) -> None:
        """Fill the buffer, which begins where its object does, with the elements from `first` on.

        Raises:
            DamagedFile: a file is missing, or ends before.
        """
        size = ITEM_SIZES[prepared.tensor.dtype]
        end = first + len(buffer) // size
        for runs in prepared.touching(first, end):
            low, high = runs.touching(first, end)
            if low < high:
                self._read_runs(runs, (low, high), (first, end), buffer, size, sums)

    def _read_runs(
        self,
        runs: Runs,
        numbers: tuple[int, int],
        part: tuple[int, int],
        buffer: memoryview,
        size: int,
        sums: Sums | None,
    ) -> None:
        low, high = numbers
        offset, count = _extent(runs, numbers, part, size)
        if high - low == 1:
            at = max(0, runs.start(low) - part[0]) * size
            read = buffer[at : at + count]
        else:
            if len(self._scratch) < count:
                self._scratch = bytearray(count)
            read = memoryview(self._scratch)[:count]
        self.files.read_into(runs.piece.file, offset, read)
        if sums and runs.is_whole:
            sums.add(runs.piece, offset, read)
        if high - low > 1 and not self._read_rows(runs, numbers, part, buffer, size):
            form = FORMATS[size]
            _scatter(buffer.cast(form), read.cast(form), runs, numbers, part)

    def _read_rows(
        self, runs: Runs, numbers: tuple[int, int], part: tuple[int, int], buffer: memoryview, size: int
    ) -> bool:
        """Have the kernel put runs where they belong, which costs a second read and spares a loop of ours over them;
        False where they are too short for that, not evenly spread or cut off by the block, or where it did not do all.
        """
        low, high = numbers
        start, step, length = runs.start(low) - part[0], runs.steps[-1], runs.length
        end = start + (high - low - 1) * step + length
        if length <= NARROW or len(runs.steps) > 1 or start < 0 or end > part[1] - part[0]:
            return False
        places = self._places.get(buffer, start * size, end * size, step * size, length * size)
        fd = self.files.get(runs.piece.file)
        offset, _ = _extent(runs, numbers, part, size)
        for views in places:
            count = len(views) * length * size
            if os.preadv(fd, views, offset) != count:
                return False
            offset += count
        return True

    def check(self, checked: Checked) -> None:
        """Read bytes for their checksum alone.

        Raises:
            DamagedFile: they are not those that were saved.
        """
        buffer = memoryview(bytearray(min(BLOCK, checked.length)))
        crc, at = 0, 0
        while at < checked.length:
            part = buffer[: checked.length - at]
            self.files.read_into(checked.file, checked.offset + at, part)
            crc = zlib_ng.crc32(part, crc)
            at += len(part)
        checksums.compare(checked, crc)


def _extent(runs: Runs, numbers: tuple[int, int], part: tuple[int, int], size: int) -> tuple[int, int]:
    """Where in the piece's file the elements of these runs lie that are in a part of the whole: offset and bytes."""
    low, high = numbers
    first, end = part
    skipped = max(0, first - runs.start(low))
    until = (high - 1) * runs.length + min(runs.length, end - runs.start(high - 1))
    start = low * runs.length + skipped
    return runs.piece.offset + start * size, (until - start) * size


def _scatter(
    target: memoryview, source: memoryview, runs: Runs, numbers: tuple[int, int], part: tuple[int, int]
) -> None:
    """Put runs, which lie one behind the other in `source`, where they belong; the outermost may be cut off."""
    number, high = numbers
    first, end = part
    length, inner, step = runs.length, runs.sizes[-1], runs.steps[-1]
    taken = 0
    while number < high:
        start = runs.start(number)
        count = min(high - number, inner - number % inner)
        if start < first:
            count = 1
        elif count > 1 and start + (count - 1) * step + length > end:
            count -= 1
        if count > 1 and length <= NARROW:
            at, span = start - first, (count - 1) * step + 1
            for column in range(length):
                target[at + column : at + column + span : step] = source[
                    taken + column : taken + count * length : length
                ]
            taken += count * length
        elif start >= first and start + (count - 1) * step + length <= end:
            for at in range(start - first, start - first + count * step, step):
                target[at : at + length] = source[taken : taken + length]
                taken += length
        else:  # a single run that the block cuts off
            low, top = max(start, first), min(start + length, end)
            target[low - first : top - first] = source[taken : taken + top - low]
            taken += top - low
        number += count


def choose_step(shape: tuple[int, ...], most: int) -> int:
    """Elements of a block: at most `most`, and whole rows (of some axis) where these fit."""
    row = next((size for axis in range(1, len(shape) + 1) if (size := prod(shape[axis:])) <= most), 1)
    return max(1, most // max(row, 1)) * max(row, 1)


def blocks(tensor: Tensor) -> Iterator[bytes]:
    """The bytes of a tensor, row-major, in blocks of about a MiB; what is damaged is noticed with the last of them.

    Raises:
        DamagedFile: its pieces do not tile it, a file is missing or short, or the bytes are not those that were saved.
    """
    prepared, files, ledger = prepare(tensor), OpenFiles(), Ledger()
    size, whole = ITEM_SIZES[tensor.dtype], prod(tensor.shape)
    step = choose_step(tensor.shape, BLOCK // size)
    reader, sums = BlockReader(files), Sums(tensor.name)
    try:
        for checked in checksums.list_apart([prepared.tensor]):
            reader.check(checked)
        for first in range(0, whole, step):
            buffer = bytearray(min(step, whole - first) * size)
            reader.read(prepared, first, memoryview(buffer), sums)
            yield bytes(buffer)
        sums.hand_over(ledger)
    finally:
        files.close()
