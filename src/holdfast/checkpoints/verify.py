"""Compares what was written with what it was made of, tensor by tensor, both sides streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import NamedTuple

from holdfast.checkpoints import cast, gather, layout, parallel
from holdfast.checkpoints.gather import BLOCK, BlockReader, OpenFiles
from holdfast.checkpoints.layout import Source
from holdfast.checkpoints.runs import Prepared, prepare
from holdfast.checkpoints.tensors import ITEM_SIZES, Computed, Tensor


class Difference(NamedTuple):
    """A tensor that is not what it should be, in words; `element` is the first that differs, row-major."""

    tensor: str
    what: str
    element: int | None = None

    def __str__(self) -> str:
        return f"{self.tensor}: {self.what}"


class _Pair(NamedTuple):
    source: Source
    expected: Prepared | None
    target: Prepared


def compare(
    sources: Mapping[str, Source],
    targets: Mapping[str, Tensor],
    dtype: str | None = None,
    *,
    threads: int | None = None,
    progress: parallel.Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Difference]:
    """What differs between tensors and the files made of them with `dtype` (see `layout.plan`): one entry a tensor.

    Bits are compared, so a NaN equals itself. `progress(done, total)` counts bytes of the targets.

    Raises:
        DamagedFile: a file is missing or short.
        Stopped: `stop` said so.
    """
    found = [Difference(name, "missing in what was written") for name in sources.keys() - targets.keys()]
    found += [Difference(name, "not in the source") for name in targets.keys() - sources.keys()]
    pairs = []
    for name in sorted(sources.keys() & targets.keys()):
        if problem := _describe(sources[name], targets[name], dtype):
            found.append(Difference(name, problem))
        else:
            source = sources[name]
            expected = prepare(source) if isinstance(source, Tensor) else None
            pairs.append(_Pair(source, expected, prepare(targets[name])))

    @contextmanager
    def work() -> Iterator[Callable[[_Pair], int]]:
        opened = OpenFiles()

        def do(pair: _Pair) -> int:
            difference = _first_difference(BlockReader(opened), pair)
            if difference:
                found.append(difference)
            return pair.target.tensor.nbytes

        try:
            yield do
        finally:
            opened.close()

    parallel.run(pairs, work, sum(pair.target.tensor.nbytes for pair in pairs), threads, progress, stop)
    return sorted(found)


def _describe(source: Source, target: Tensor, dtype: str | None) -> str:
    expected = layout.choose_dtype(source, dtype)
    if (expected, source.shape) == (target.dtype, target.shape):
        return ""
    return f"{target.dtype} {list(target.shape)}, expected {expected} {list(source.shape)}"


def _first_difference(reader: BlockReader, pair: _Pair) -> Difference | None:
    target = pair.target.tensor
    size = ITEM_SIZES[target.dtype]
    first = 0
    for expected in _expected_blocks(reader, pair):
        if first + len(expected) // size > prod(target.shape):
            return Difference(target.name, f"{prod(target.shape)} elements, the source gives more")
        written = bytearray(len(expected))
        reader.read(pair.target, first, memoryview(written))
        if expected != written:
            at = next(i for i in range(len(written)) if expected[i] != written[i]) // size
            ours, theirs = written[at * size : (at + 1) * size][::-1], expected[at * size : (at + 1) * size][::-1]
            index = _unravel(first + at, target.shape)
            file = _file_of(pair.target, first + at)
            what = f"element {index} is 0x{ours.hex()} in {file.name}, expected 0x{theirs.hex()}"
            return Difference(target.name, what, first + at)
        first += len(expected) // size
    if first != prod(target.shape):
        return Difference(target.name, f"{prod(target.shape)} elements, the source gives {first}")
    return None


def _expected_blocks(reader: BlockReader, pair: _Pair) -> Iterator[bytes]:
    convert = cast.choose(pair.source.dtype, pair.target.tensor.dtype)
    for block in _source_blocks(reader, pair):
        yield bytes(convert(block)) if convert else block


def _source_blocks(reader: BlockReader, pair: _Pair) -> Iterator[bytes]:
    source, size = pair.source, ITEM_SIZES[pair.source.dtype]
    if isinstance(source, Computed):
        left = b""
        for data in source.blocks():
            whole = len(left + data) // size * size
            yield (left + data)[:whole]
            left = (left + data)[whole:]
        return
    assert pair.expected
    step, whole = gather.choose_step(source.shape, BLOCK // size), prod(source.shape)
    for first in range(0, whole, step):
        buffer = bytearray(min(step, whole - first) * size)
        reader.read(pair.expected, first, memoryview(buffer))
        yield bytes(buffer)


def _unravel(number: int, shape: tuple[int, ...]) -> list[int]:
    index: list[int] = []
    for extent in reversed(shape):
        number, at = divmod(number, extent)
        index.insert(0, at)
    return index


def _file_of(prepared: Prepared, element: int) -> Path:
    return prepared.touching(element, element + 1)[0].piece.file
