"""Bytes arrive where they belong, whatever the shape of the pieces, and nothing that goes wrong is silent."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import subprocess
import sys
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.checkpoints import checksums, copy, gather, layout, parallel, safetensors_file, snapshots, verify
from holdfast.checkpoints.tensors import ITEM_SIZES, Checked, Computed, Piece, Tensor
from holdfast.core.errors import DamagedFile, Stopped, UserError

MIB = 2**20


def scatter(directory: Path, name: str, dtype: str, shape: tuple[int, ...], parts: list[int], seed: int = 0) -> Tensor:
    """A tensor of random bytes, cut as a mesh would; each part in a file of its own, behind some other bytes. Every
    second part carries a checksum."""
    import numpy as np

    whole = random.Random(seed).randbytes(prod(shape) * ITEM_SIZES[dtype])
    (directory / f"{name}.whole").write_bytes(whole)
    values = np.frombuffer(whole, f"V{ITEM_SIZES[dtype]}").reshape(shape)
    axes = []
    for extent, count in zip(shape, parts, strict=True):
        step = -(-extent // count)
        axes.append([range(min(extent, n * step), min(extent, (n + 1) * step)) for n in range(count)])
    pieces = []
    for number, ranges in enumerate(itertools.product(*axes)):
        data = values[tuple(slice(each.start, each.stop) for each in ranges)].tobytes()
        path = directory / f"{name}.{number}"
        path.write_bytes(bytes(number) + data + b"tail")
        checked = Checked(path, number, len(data), zlib.crc32(data)) if number % 2 else None
        starts = tuple(each.start for each in ranges)
        pieces.append(Piece(path, number, starts, tuple(map(len, ranges)), checked=checked))
    return Tensor(name, dtype, shape, tuple(pieces))


def read_back(directory: Path) -> dict[str, bytes]:
    found = safetensors_file.read(sorted(directory.glob("*.safetensors")))
    return {name: b"".join(gather.blocks(tensor)) for name, tensor in found.items()}


@given(
    st.lists(st.integers(1, 9), max_size=4),
    st.sampled_from(["BF16", "F32", "U8", "I64"]),
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
    st.sampled_from([8, 32, 64, 4096]),
    st.sampled_from([1, 100]),
)
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mesh_is_put_together(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    dtype: str,
    parts: list[int],
    block: int,
    width: int,
) -> None:
    """With blocks of a few bytes, so that every way to cut runs occurs; with a width, also of runs of many elements."""
    directory = tmp_path_factory.mktemp("mesh")
    shape = [*shape[:-1], *(size * width for size in shape[-1:])]
    tensor = scatter(directory, "t", dtype, tuple(shape), parts[: len(shape)])
    (directory / "out").mkdir()
    copy.write(directory / "out", layout.plan([tensor]), block=block)
    assert read_back(directory / "out") == {"t": (directory / "t.whole").read_bytes()}


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((3000, 1000), (4, 1)),
        ((3000, 1000), (1, 8)),
        ((3000, 1000), (3, 3)),
        ((40, 60, 500), (1, 1, 7)),
        ((40, 60, 500), (2, 3, 2)),
        ((700_001,), (3,)),
        ((2, 700_000), (1, 2)),
        ((100_000, 6), (1, 3)),
        ((9000, 300), (1, 2)),
    ],
)
@pytest.mark.parametrize("dtype", ["BF16", "U8"])
def test_tensors_of_several_blocks_are_put_together(
    tmp_path: Path, shape: tuple[int, ...], parts: tuple[int, ...], dtype: str
) -> None:
    tensor = scatter(tmp_path, "t", dtype, shape, list(parts))
    (tmp_path / "out").mkdir()
    seen: list[tuple[int, int]] = []
    copy.write(tmp_path / "out", layout.plan([tensor]), progress=lambda *done: seen.append(done))
    assert read_back(tmp_path / "out") == {"t": (tmp_path / "t.whole").read_bytes()}
    assert seen[-1] == (tensor.nbytes, tensor.nbytes) and seen == sorted(seen)
    assert verify.compare({"t": tensor}, safetensors_file.read([tmp_path / "out" / layout.WEIGHTS])) == []


def test_another_file_system_takes_the_other_way(tmp_path: Path) -> None:
    """Between two file systems `copy_file_range` refuses."""
    import tempfile

    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        tensor = scatter(Path(elsewhere), "t", "U8", (3, MIB), [3, 1])
        plain = Tensor("t", "U8", (3, MIB), tuple(Piece(p.file, p.offset, p.starts, p.shape) for p in tensor.pieces))
        copy.write(tmp_path, layout.plan([plain]))
        assert read_back(tmp_path) == {"t": (Path(elsewhere) / "t.whole").read_bytes()}


def test_what_is_computed_is_written_and_cast(tmp_path: Path) -> None:
    import numpy as np

    values = np.linspace(-3, 3, 30, dtype=np.float32)
    data = values.tobytes()
    parts = [data[:6], data[6:7], b"", data[7:100], data[100:]]
    source = Computed("t", "F32", (5, 6), lambda: iter(parts))
    for dtype, expected in ((None, data), ("F16", values.astype(np.float16).tobytes())):
        (tmp_path / str(dtype)).mkdir()
        copy.write(tmp_path / str(dtype), layout.plan([source], dtype))
        assert read_back(tmp_path / str(dtype)) == {"t": expected}
        targets = safetensors_file.read([tmp_path / str(dtype) / layout.WEIGHTS])
        assert verify.compare({"t": source}, targets, dtype) == []
    for wrong in ([data[:-1]], [data, b"1234"]):
        (tmp_path / str(len(wrong))).mkdir()
        bad = Computed("t", "F32", (5, 6), lambda wrong=wrong: iter(wrong))  # type: ignore[misc]
        with pytest.raises(ValueError, match="t is computed as"):
            copy.write(tmp_path / str(len(wrong)), layout.plan([bad]))


def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    for seed, parts in enumerate([[3, 1], [1, 3], [2, 2], [1, 1]]):
        directory = tmp_path / str(seed)
        (directory / "out").mkdir(parents=True)
        tensor = scatter(directory, "t", "BF16", (1500, 1111), parts)
        checked = [piece.checked for piece in tensor.pieces if piece.checked]
        if not checked:
            continue
        victim = random.Random(seed).choice(checked)
        data = bytearray(victim.file.read_bytes())
        data[victim.offset + random.Random(seed).randrange(victim.length)] ^= 1
        victim.file.write_bytes(data)
        with pytest.raises(DamagedFile, match="CRC-32") as error:
            copy.write(directory / "out", layout.plan([tensor]))
        assert str(victim.file) in str(error.value)
        with pytest.raises(DamagedFile, match="CRC-32"):
            list(gather.blocks(tensor))


@pytest.mark.parametrize("checked", [True, False])
def test_a_source_that_became_shorter_is_refused(tmp_path: Path, checked: bool) -> None:
    tensor = scatter(tmp_path, "t", "U8", (4, MIB), [2, 1])
    piece = tensor.pieces[1 if checked else 0]
    os.truncate(piece.file, 1000)
    (tmp_path / "out").mkdir()
    with pytest.raises(DamagedFile, match="became shorter") as error:
        copy.write(tmp_path / "out", layout.plan([tensor]))
    assert str(piece.file) in str(error.value)


def test_a_source_that_vanished_is_named(tmp_path: Path) -> None:
    tensor = scatter(tmp_path, "t", "U8", (4, 100), [2, 1])
    tensor.pieces[1].file.unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(DamagedFile, match="No such file") as error:
        copy.write(tmp_path / "out", layout.plan([tensor]))
    assert str(tensor.pieces[1].file) in str(error.value)


def test_a_source_that_is_written_meanwhile_is_noticed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.write_bytes(b"1234")
    snapshot = snapshots.take([first, first, second])
    snapshots.check(snapshot)
    os.utime(second, ns=(1, 1))
    with pytest.raises(UserError, match=r"second changed while it was read \(mtime_ns"):
        snapshots.check(snapshot)
    snapshot = snapshots.take([first, second])
    (tmp_path / "new").write_bytes(b"1234")
    os.replace(tmp_path / "new", first)
    with pytest.raises(UserError, match=r"first changed while it was read \(inode"):
        snapshots.check(snapshot)
    second.unlink()
    with pytest.raises(UserError, match="second is not there: No such file"):
        snapshots.take([first, second])


def test_a_full_disk_is_said_before_anything_is_copied(tmp_path: Path) -> None:
    """A limit on file sizes stands for it: the file system refuses the space in the same call."""
    program = (
        "import sys; from pathlib import Path; from holdfast.checkpoints import copy, layout\n"
        "from holdfast.checkpoints.tensors import Piece, Tensor; from holdfast.core.errors import UserError\n"
        "piece = Piece(Path('/nowhere'), 0, (0,), (10**7,))\n"
        "try: copy.write(Path(sys.argv[1]), layout.plan([Tensor('t', 'U8', (10**7,), (piece,))]))\n"
        "except UserError as error: sys.exit(0 if 'which needs 10000' in str(error) else str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_stops_when_asked(tmp_path: Path) -> None:
    tensor = scatter(tmp_path, "t", "U8", (64, MIB), [1, 1])
    (tmp_path / "out").mkdir()
    seen: list[int] = []

    def blocks() -> Iterator[bytes]:
        for _ in range(64):
            while not seen:
                os.sched_yield()
            yield bytes(MIB)

    slow = Computed("slow", "U8", (64, MIB), blocks)
    with pytest.raises(Stopped, match=r"stopped after \d+ of 134217728 bytes"):
        copy.write(
            tmp_path / "out",
            layout.plan([tensor, slow, Computed("slow2", "U8", (0,), blocks)]),
            threads=1,
            stop=lambda: not seen.append(1),  # type: ignore[func-returns-value]
        )


def test_the_first_error_ends_the_other_threads() -> None:
    done: list[int] = []

    def fail(number: int) -> int:
        if number == 3:
            raise OSError(errno.EIO, "the disk is gone")
        done.append(number)
        return 1

    from contextlib import nullcontext

    with pytest.raises(OSError, match="the disk is gone"):
        parallel.run(iter(range(10**6)), lambda: nullcontext(fail), 10**6, threads=4)
    assert len(done) < 10**6


def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    """Peak memory of a process that converts row and column shards, and casts: of 32 MiB and of 256 MiB."""
    program = (
        "import sys; from pathlib import Path; from holdfast.checkpoints import copy, layout\n"
        "from holdfast.checkpoints.tensors import Piece, Tensor; from holdfast.core import artifact\n"
        "out, rows = Path(sys.argv[1]), int(sys.argv[2])\n"
        "source = out / 'zeros'; source.touch(); import os; os.truncate(source, rows * 8192)\n"
        "half = Piece(source, 0, (0, 0), (rows, 2048)), Piece(source, rows * 4096, (0, 2048), (rows, 2048))\n"
        "whole = (Piece(source, 0, (0, 0), (rows, 4096)),)\n"
        "tensors = [Tensor('columns', 'BF16', (rows, 4096), half), Tensor('rows', 'BF16', (rows, 4096), whole)]\n"
        "dtype = sys.argv[3] if len(sys.argv) > 3 else None\n"
        "copy.write(out, layout.plan(tensors, dtype)); artifact.digest_of(out / 'model.safetensors')\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )

    def peak(rows: int, *dtype: str) -> int:
        directory = tmp_path / f"{rows}{''.join(dtype)}"
        directory.mkdir()
        command = [sys.executable, "-c", program, str(directory), str(rows), *dtype]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        (directory / "model.safetensors").unlink()
        return int(found.stdout.split()[1]) // 1024

    small, large = peak(2048), peak(16384)
    assert large <= 64 and large - small < 16, (small, large)
    assert peak(8192, "F16") <= 128


def test_differences_are_named_to_the_element(tmp_path: Path) -> None:
    tensors = [scatter(tmp_path, name, "BF16", (300, 2000), [1, 2], seed) for seed, name in enumerate("abc")]
    sources = {tensor.name: tensor for tensor in tensors}
    (tmp_path / "out").mkdir()
    copy.write(tmp_path / "out", layout.plan(tensors))
    path = tmp_path / "out" / layout.WEIGHTS
    targets = safetensors_file.read([path])
    assert verify.compare(sources, targets) == []
    data = bytearray(path.read_bytes())
    data[targets["b"].pieces[0].offset + (123 * 2000 + 45) * 2] ^= 1
    path.write_bytes(data)
    (difference,) = verify.compare(sources, targets)
    assert difference.tensor == "b" and difference.element == 123 * 2000 + 45
    assert "element [123, 45]" in str(difference) and "in model.safetensors" in str(difference)
    lacking = {name: tensor for name, tensor in targets.items() if name != "a"}
    assert str(verify.compare(sources, lacking)[0]) == "a: missing in what was written"
    assert "c: not in the source" in map(str, verify.compare({"a": sources["a"], "b": sources["b"]}, targets))
    assert "expected F32 [300, 2000]" in str(verify.compare(sources, targets, "F32")[0])


@given(st.binary(max_size=3000), st.data())
def test_checksums_of_parts_are_joined(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))
    joined = checksums.combine(zlib.crc32(data[:at]), zlib.crc32(data[at:]), len(data) - at)
    assert joined == zlib.crc32(data)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / layout.WEIGHTS).write_bytes(b"mine")
    tensor = scatter(tmp_path, "t", "U8", (4,), [1])
    with pytest.raises(FileExistsError):
        copy.write(tmp_path, layout.plan([tensor]))
    assert (tmp_path / layout.WEIGHTS).read_bytes() == b"mine"
    assert issubclass(DamagedFile, UserError)
