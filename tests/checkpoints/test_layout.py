"""Planned files are those that safetensors and transformers would write, and hostile headers are refused."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from holdfast.checkpoints import copy, layout, safetensors_file
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import UserError


def stored(directory: Path, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of random bytes, whose file is its own."""
    tensor = Tensor(name, dtype, shape, (Piece(directory / name, 0, (0,) * len(shape), shape),))
    (directory / name).write_bytes(random.Random(name).randbytes(tensor.nbytes))
    return tensor


@pytest.fixture
def tensors(tmp_path: Path) -> list[Tensor]:
    shapes = {"b.weight": (3, 5), "a.weight": (7,), "é": (2, 2), "z": (), "empty": (0, 4), "c": (1,)}
    dtypes = ("BF16", "U8", "F32", "I64", "F16", "BOOL")
    return [stored(tmp_path, name, dtype, shape) for (name, shape), dtype in zip(shapes.items(), dtypes, strict=True)]


@pytest.mark.train
def test_a_file_is_byte_for_byte_that_of_the_library(tensors: list[Tensor], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    planned = layout.plan(tensors)
    (tmp_path / "ours").mkdir()
    copy.write(tmp_path / "ours", planned)
    loaded = load_file(tmp_path / "ours" / "model.safetensors")
    save_file(loaded, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()
    for tensor in tensors:
        assert loaded[tensor.name].numel() * loaded[tensor.name].element_size() == tensor.nbytes


def test_the_order_of_the_tensors_changes_nothing(tensors: list[Tensor]) -> None:
    for seed in range(5):
        shuffled = random.Random(seed).sample(tensors, len(tensors))
        assert layout.plan(shuffled, shard_bytes=20) == layout.plan(tensors, shard_bytes=20)


def test_shards_hold_what_they_may_and_the_index_names_each_tensor(tensors: list[Tensor]) -> None:
    planned = layout.plan(tensors, shard_bytes=30)
    count = len(planned)
    assert [file.name for file in planned] == [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    for file in planned:
        assert sum(place.nbytes for place in file.places) <= 30 or len(file.places) == 1
        assert len(file.header) % 8 == 0 and file.size == len(file.header) + sum(p.nbytes for p in file.places)
    index = json.loads(layout.make_index(planned) or b"")
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors)
    assert index["weight_map"] == {place.source.name: file.name for file in planned for place in file.places}
    assert layout.make_index(layout.plan(tensors)) is None


def test_only_floating_point_tensors_are_cast(tensors: list[Tensor]) -> None:
    (file,) = layout.plan(tensors, "BF16")
    assert {place.source.name: place.dtype for place in file.places} == {
        "b.weight": "BF16", "a.weight": "U8", "é": "BF16", "z": "I64", "empty": "BF16", "c": "BOOL",
    }  # fmt: skip


def test_what_was_written_is_read_back(tensors: list[Tensor], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    planned = layout.plan(tensors, shard_bytes=30)
    copy.write(tmp_path / "out", planned)
    found = safetensors_file.read(tmp_path / "out" / file.name for file in planned)
    assert {name: (t.dtype, t.shape) for name, t in found.items()} == {t.name: (t.dtype, t.shape) for t in tensors}
    for tensor in tensors:
        piece = found[tensor.name].pieces[0]
        data = piece.file.read_bytes()[piece.offset : piece.offset + tensor.nbytes]
        assert data == (tmp_path / tensor.name).read_bytes()
    header = safetensors_file.read_header(tmp_path / "out" / planned[0].name)
    assert header.metadata == {"format": "pt"}


def entry(begin: int = 0, end: int = 4, **changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end]} | changed


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": 1, "a": 1}',
        b"[" * 100_000,
        b'{"__metadata__": {"a": 1}}',
        b'{"__metadata__": 3}',
        b"\xff\xfe",
        {"a": entry(dtype="F31")},
        {"a": entry(dtype=["F32"])},
        {"a": entry(shape=[-1])},
        {"a": entry(shape=[True])},
        {"a": entry(shape=["1"])},
        {"a": entry(shape=[2**62, 2**62])},
        {"a": entry(shape=[1] * 100)},
        {"a": entry(0, 8)},
        {"a": entry(4, 8)},
        {"a": entry(4, 0)},
        {"a": entry(data_offsets=[0])},
        {"a": entry(), "b": entry()},
        {"a": entry(), "b": entry(8, 12)},
        {"a": entry(), "b": entry(2, 6)},
    ],
)
def test_a_header_that_lies_is_a_message(tmp_path: Path, content: bytes | dict[str, Any]) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(UserError) as error:
        safetensors_file.read([path])
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"abc", b"\xff" * 8, (10**7).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_is_a_message(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="bytes, and a header of"):
        safetensors_file.read_header(tmp_path / "x")


def test_a_truncated_file_is_a_message(tensors: list[Tensor], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    copy.write(tmp_path / "out", layout.plan(tensors))
    path = tmp_path / "out" / layout.WEIGHTS
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match="its header says"):
        safetensors_file.read_header(path)


def test_one_name_in_two_files_is_a_message(tmp_path: Path) -> None:
    text = json.dumps({"a": entry()}).encode()
    for name in "xy":
        (tmp_path / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(UserError, match="a is also in x"):
        safetensors_file.read([tmp_path / "x", tmp_path / "y"])
