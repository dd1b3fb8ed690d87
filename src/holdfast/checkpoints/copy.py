"""Writes planned safetensors files: bytes go from where they lie to where they belong.

Files are allocated before the first byte is copied: a full disk is an early error. Threads fill disjoint ranges.
What neither changes nor carries a checksum is copied by the kernel (`copy_file_range`); everything else goes through a
block of memory: read, checked, cast, written. Memory is a few blocks for each thread, whatever the size.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from holdfast.checkpoints import cast, checksums, disk, gather, parallel
from holdfast.checkpoints.checksums import Ledger
from holdfast.checkpoints.gather import BlockReader, OpenFiles, Sums
from holdfast.checkpoints.layout import OutputFile, Place
from holdfast.checkpoints.runs import Prepared, prepare
from holdfast.checkpoints.tensors import ITEM_SIZES, Checked, Computed, Tensor
from holdfast.core import files as durable

BLOCKS = 16
"""That a thread takes on at once: 16 MiB."""
NOT_THERE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY}
"""What `copy_file_range` says where it cannot; a seccomp filter says EPERM."""


class _Output:
    """A file that is being written; `units` counts those that are still to come."""

    def __init__(self, path: Path, units: int) -> None:
        self.path = path
        self.fd = -1
        self._units = units
        self._lock = threading.Lock()

    def open(self) -> int:
        with self._lock:
            if self.fd < 0:
                self.fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            return self.fd

    def finish_unit(self) -> None:
        """Close the file when the last unit is there."""
        with self._lock:
            self._units -= 1
            if not self._units:
                os.close(self.fd)
                self.fd = -1

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


@dataclass(frozen=True)
class _Unit:
    """Elements `first` to `end` of a tensor; a computed one is made as a whole. Or, alone, bytes to check."""

    output: _Output | None
    place: Place | None
    prepared: Prepared | None
    first: int = 0
    end: int = 0
    checked: Checked | None = None


def write(
    directory: Path,
    planned: Sequence[OutputFile],
    *,
    check: bool = True,
    threads: int | None = None,
    block: int = gather.BLOCK,
    progress: parallel.Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Make the files in `directory`. They are on their way to the disk then; to wait for it is the caller's, who has to
    read them for their digests anyway: the disk works meanwhile.

    `check` compares what is read with the checksums that were saved with it. A thread holds two blocks of `block` bytes
    (with a cast six). `progress(done, total)` counts bytes written.

    Raises:
        DamagedFile: pieces do not tile a tensor, a file is missing, short, or not what was saved.
        UserError: the disk is full.
        FileExistsError: a file of such a name is there.
        Stopped: `stop` said so; the files are unfinished.
    """
    ledger = Ledger() if check else None
    outputs, units = _list_units(directory, planned, check, block)
    ahead = _Ahead(units)
    _allocate(directory, planned)
    total = sum(place.nbytes for file in planned for place in file.places)

    flusher = disk.Flusher()

    @contextmanager
    def work() -> Iterator[Callable[[_Unit], int]]:
        opened = OpenFiles()
        try:
            ahead.step(opened)
            yield _Writer(opened, ledger, block, ahead, flusher).write
        finally:
            opened.close()

    try:
        with flusher:
            parallel.run(units, work, total, threads, progress, stop)
    finally:
        for output in outputs:
            output.close()


def _list_units(
    directory: Path, planned: Sequence[OutputFile], check: bool, block: int
) -> tuple[list[_Output], list[_Unit]]:
    outputs, units = [], []
    tensors = []
    for file in planned:
        parts: list[tuple[Place, Prepared | None, int, int]] = []
        for place in file.places:
            if isinstance(place.source, Tensor):
                prepared = prepare(place.source)
                tensors.append(prepared.tensor)
                parts += [(place, prepared, first, end) for first, end in _cut(place, block)]
            elif place.nbytes:
                parts.append((place, None, 0, 0))
        output = _Output(directory / file.name, len(parts))
        outputs.append(output)
        units += [_Unit(output, *part) for part in parts]
    apart = checksums.list_apart(tensors) if check else []
    return outputs, [_Unit(None, None, None, checked=checked) for checked in apart] + units


def _cut(place: Place, block: int) -> Iterator[tuple[int, int]]:
    """Parts of a tensor, in elements, of whole blocks."""
    whole = prod(place.source.shape)
    held = _elements(place, block)
    step = max(1, BLOCKS * block // (held * ITEM_SIZES[place.source.dtype])) * held
    for first in range(0, whole, step):
        yield first, min(whole, first + step)


def _elements(place: Place, block: int) -> int:
    """That are held at once."""
    widest = max(ITEM_SIZES[place.source.dtype], ITEM_SIZES[place.dtype])
    return gather.choose_step(place.source.shape, max(1, block // widest))


def _allocate(directory: Path, planned: Sequence[OutputFile]) -> None:
    for file in planned:
        path = directory / file.name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            disk.reserve(fd, file.size)
            durable.write_all(fd, file.header)
        except OSError as error:
            raise disk.explain(error, path, file.size) from None
        finally:
            os.close(fd)


class _Ahead:
    """Tells the kernel what is read next, as many units before it is as there are threads: the disk is never idle."""

    def __init__(self, units: Iterable[_Unit]) -> None:
        self._units = iter(units)
        self._lock = threading.Lock()

    def step(self, files: OpenFiles) -> None:
        with self._lock:
            unit = next(self._units, None)
        if unit and unit.prepared:
            gather.expect(files, unit.prepared, unit.first, unit.end)


class _Writer:
    """What one thread does, with its buffers."""

    def __init__(
        self, files: OpenFiles, ledger: Ledger | None, block: int, ahead: _Ahead, flusher: disk.Flusher
    ) -> None:
        self.files = files
        self.ahead = ahead
        self.flusher = flusher
        self.block = block
        self.ledger = ledger
        self.reader = BlockReader(files)
        self._buffer = bytearray()

    def write(self, unit: _Unit) -> int:
        """Do a unit; returns the bytes written."""
        self.ahead.step(self.files)
        if unit.checked:
            self.reader.check(unit.checked)
            return 0
        assert unit.output and unit.place
        try:
            fd = unit.output.open()
            if unit.prepared is None:
                self._write_computed(fd, unit.place)
                count = unit.place.nbytes
            else:
                if not self._copy_directly(fd, unit.place, unit.prepared, unit):
                    self._copy_blocks(fd, unit.place, unit.prepared, unit)
                size = ITEM_SIZES[unit.place.dtype]
                count = (unit.end - unit.first) * size
                self.flusher.begin(fd, unit.place.offset + unit.first * size, count)
            unit.output.finish_unit()
        except OSError as error:
            raise disk.explain(error, unit.output.path) from None
        return count

    def _copy_directly(self, fd: int, place: Place, prepared: Prepared, unit: _Unit) -> bool:
        """Let the kernel copy; False where it cannot, or where the bytes must be seen."""
        is_seen = self.ledger is not None and not prepared.is_direct
        if is_seen or place.dtype != prepared.tensor.dtype or any(runs.sizes for runs in prepared.runs):
            return False
        size = ITEM_SIZES[place.dtype]
        for runs in prepared.touching(unit.first, unit.end):
            first, end = max(runs.first, unit.first), min(runs.end, unit.end)
            source = runs.piece.offset + (first - runs.first) * size
            if not self._copy_range(runs.piece.file, source, fd, place.offset + first * size, (end - first) * size):
                return False
        return True

    def _copy_range(self, path: Path, source: int, fd: int, target: int, count: int) -> bool:
        taken = self.files.get(path)
        while count:
            try:
                copied = os.copy_file_range(taken, fd, count, source, target)
            except OSError as error:
                if error.errno in NOT_THERE:
                    return False
                raise
            if not copied:
                if os.fstat(taken).st_size < source + count:
                    raise gather.ends_early(path, taken, source + count)
                return False  # a file system that says so of files it makes up, /proc for example
            source, target, count = source + copied, target + copied, count - copied
        return True

    def _copy_blocks(self, fd: int, place: Place, prepared: Prepared, unit: _Unit) -> None:
        size, kept = ITEM_SIZES[prepared.tensor.dtype], ITEM_SIZES[place.dtype]
        convert = cast.choose(prepared.tensor.dtype, place.dtype)
        step = _elements(place, self.block)
        if len(self._buffer) < step * size:
            self._buffer = bytearray(step * size)
        sums = Sums(prepared.tensor.name) if self.ledger else None
        for first in range(unit.first, unit.end, step):
            block = memoryview(self._buffer)[: min(step, unit.end - first) * size]
            self.reader.read(prepared, first, block, sums)
            disk.write_at(fd, convert(block) if convert else block, place.offset + first * kept)
        if sums and self.ledger:
            sums.hand_over(self.ledger)

    def _write_computed(self, fd: int, place: Place) -> None:
        computed = place.source
        assert isinstance(computed, Computed)
        convert = cast.choose(computed.dtype, place.dtype)
        size, at, left = ITEM_SIZES[computed.dtype], place.offset, b""
        for block in computed.blocks():
            data = left + block
            whole = len(data) // size * size
            left = data[whole:]
            made = convert(data[:whole]) if convert else data[:whole]
            if at + len(made) > place.offset + place.nbytes:
                raise ValueError(f"{computed.name} is computed as more than {computed.nbytes} bytes")
            disk.write_at(fd, made, at)
            at += len(made)
        if left or at != place.offset + place.nbytes:
            raise ValueError(f"{computed.name} is computed as less than {computed.nbytes} bytes")
