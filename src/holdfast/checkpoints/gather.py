"""Reads elements of a tensor in row-major order, wherever its pieces lie.

A block of the whole is a few large reads, whose runs are put in place in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

from zlib_ng import zlib_ng

from holdfast.checkpoints import checksums, torch_file
from holdfast.checkpoints.checksums import Ledger, Part
from holdfast.checkpoints.runs import Prepared, Runs, prepare
from holdfast.checkpoints.scatter import FORMATS, NARROW, Places, scatter
from holdfast.checkpoints.tensors import ITEM_SIZES, Checked, Piece, Tensor
from holdfast.core.errors import DamagedFile

BLOCK = 2**20
"""Bytes that are read, checked and written at once: they stay in the processor's cache."""
MOST_OPEN = 64


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

    def read_each(self, path: Path, offset: int, buffers: list[memoryview]) -> None:
        """Fill the buffers, one after another, with at most `IOV_MAX` of them at once.

        Raises:
            DamagedFile: the file ends before.
        """
        if os.preadv(self.get(path), buffers, offset) == sum(map(len, buffers)):
            return
        for buffer in buffers:
            self.read_into(path, offset, buffer)
            offset += len(buffer)

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


class Sums:
    """Running checksums of one pass over a part of a tensor, of each piece that is a whole member."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        self._parts: dict[Piece, tuple[int, int, int]] = {}

    def add(self, piece: Piece, offset: int, buffers: list[memoryview]) -> None:
        first, length, crc = self._parts.get(piece, (offset, 0, 0))
        for data in buffers:
            length, crc = length + len(data), zlib_ng.crc32(data, crc)
        self._parts[piece] = (first, length, crc)

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
            files.expect(runs.piece.file, *runs.extent((low, high), (first, end), size))


class BlockReader:
    """Reads blocks of tensors for one thread; `sums` collects checksums of what is read, in ascending order."""

    def __init__(self, files: OpenFiles) -> None:
        self.files = files
        self._scratch = bytearray()
        self._places = Places()

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
        offset, count = runs.extent(numbers, part, size)
        if numbers[1] - numbers[0] == 1:
            at = max(0, runs.start(numbers[0]) - part[0]) * size
            places = [[buffer[at : at + count]]]
        else:
            places = self._find_places(runs, numbers, part, buffer, size)
        if not places and len(self._scratch) < count:
            self._scratch = bytearray(count)
        scratch = memoryview(self._scratch)[:count]
        for buffers in places or [[scratch]]:
            self.files.read_each(runs.piece.file, offset, buffers)
            if sums and runs.is_whole:
                sums.add(runs.piece, offset, buffers)
            offset += sum(map(len, buffers))
        if not places:
            form = FORMATS[size]
            scatter(buffer.cast(form), scratch.cast(form), runs, numbers, part)

    def _find_places(
        self, runs: Runs, numbers: tuple[int, int], part: tuple[int, int], buffer: memoryview, size: int
    ) -> list[list[memoryview]]:
        """Where in the buffer the runs belong, for the kernel to put them there; none where they are too short for
        that, not evenly spread, or cut off by the block.
        """
        low, high = numbers
        start, step, length = runs.start(low) - part[0], runs.steps[-1], runs.length
        end = start + (high - low - 1) * step + length
        if length <= NARROW or len(runs.steps) > 1 or start < 0 or end > part[1] - part[0]:
            return []
        return self._places.get(buffer, start * size, end * size, step * size, length * size)

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
