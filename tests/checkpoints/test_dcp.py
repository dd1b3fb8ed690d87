"""Reads what real processes of torch.distributed wrote, whole and harmed, and compares it with torch's own loading."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoints.real_dcp import SIZES, Maker, as_bytes, load_with_torch

from holdfast.checkpoints import copy, dcp, gather, layout, safetensors_file, tiling, torch_file
from holdfast.checkpoints.sharding import Sharded, Stored
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import DamagedFile, UserError

CHECKPOINTS = [*((ranks, name) for ranks in SIZES for name in ("fsdp", "plain"))]
CHECKPOINTS += [(4, "mesh"), (4, "hybrid"), (4, "tensor_parallel")]


def bytes_of(tensor: Tensor) -> bytes:
    return b"".join(gather.blocks(tensor))


@pytest.mark.train
@pytest.mark.parametrize(("ranks", "name"), CHECKPOINTS)
def test_every_tensor_is_what_torch_loads(real_dcp: Maker, tmp_path: Path, ranks: int, name: str) -> None:
    from safetensors.torch import load_file

    source = real_dcp(ranks) / name
    expected = load_with_torch(source)
    tensors = dcp.read(source)
    assert tensors.keys() == expected.keys()
    planned = layout.plan(tensors.values(), shard_bytes=500)
    copy.write(tmp_path, planned)
    written = {key: value for file in planned for key, value in load_file(tmp_path / file.name).items()}
    assert {key: (value.dtype, value.shape) for key, value in written.items()} == {
        key: (value.dtype, value.shape) for key, value in expected.items()
    }
    assert {key: as_bytes(value) for key, value in written.items()} == {
        key: as_bytes(value) for key, value in expected.items()
    }


@pytest.mark.train
def test_what_is_no_tensor_is_named_and_left_alone(real_dcp: Maker) -> None:
    metadata = dcp.read_metadata(real_dcp(2) / "plain")
    assert sorted(metadata.others) == ["model.step", "model.words"]
    assert metadata.paths["model.step"] == ("model", "step")
    again = dcp.read_metadata(real_dcp(2) / "fsdp")
    assert metadata.save_id and again.save_id and metadata.save_id != again.save_id
    assert "optimizer.state.0.down.weight.exp_avg" in again.tensors
    assert any(name.startswith("optimizer.param_groups") for name in again.others)


@pytest.mark.train
def test_reading_a_part_opens_no_more_than_it_needs(real_dcp: Maker, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    shutil.copytree(real_dcp(4) / "fsdp", source)
    metadata = dcp.read_metadata(source)
    wanted = "model.0.up.bias"
    needed = {chunk.file for chunk in metadata.tensors[wanted].chunks if chunk.shape != (0,)}
    for file in metadata.files - needed - {source / dcp.METADATA}:
        file.unlink()
    assert bytes_of(dcp.locate(metadata, [wanted])[wanted])


@pytest.mark.train
@pytest.mark.parametrize(("ranks", "name"), CHECKPOINTS)
def test_rank_files_hold_the_same_tensors(real_dcp: Maker, ranks: int, name: str) -> None:
    """Each rank's `torch.save`, put together by what its DTensors say of themselves."""
    files = sorted((real_dcp(ranks) / f"{name}_ranks").iterdir())
    states = [torch_file.read(file) for file in files]
    expected = load_with_torch(real_dcp(ranks) / name)
    for key, value in states[0].items():
        parts = [state[key] for state in states]
        if isinstance(value, Sharded):
            pieces = tuple(part.piece() for part in parts)
            tensor = Tensor(key, value.local.dtype, value.shape, pieces)
        elif isinstance(value, Stored):
            tensor = Tensor(key, value.dtype, value.shape, (value.piece(),))
        else:
            assert key in ("step", "words")
            continue
        wanted = expected.get(f"model.{key}", expected.get(key))
        assert bytes_of(tensor) == as_bytes(wanted), key


@pytest.mark.train
def test_shards_of_a_rank_each_become_the_whole(real_dcp: Maker) -> None:
    for ranks in (1, 2, 4):
        files = sorted((real_dcp(ranks) / "safetensors").glob("*.safetensors"))
        assert len(files) == ranks
        expected = load_with_torch(real_dcp(ranks) / "fsdp")
        found = safetensors_file.read(files)
        assert found
        for name, tensor in found.items():
            assert bytes_of(tensor) == as_bytes(expected[f"model.{name}"]), name


@pytest.fixture
def damaged(real_dcp: Maker, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    directory = tmp_path / "damaged"
    shutil.copytree(real_dcp(2) / "plain", directory)
    return directory


def convert(source: Path, target: Path) -> None:
    target.mkdir()
    copy.write(target, layout.plan(dcp.read(source).values()))


def message_of(source: Path, target: Path) -> str:
    with pytest.raises(UserError) as error:
        convert(source, target)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.train
def test_a_flipped_bit_anywhere_in_a_tensor_is_refused(damaged: Path, tmp_path: Path) -> None:
    tensors = dcp.read(damaged)
    for number, name in enumerate(("model.rows_11", "model.columns", "model.transposed", "model.scalar")):
        piece = tensors[name].pieces[-1]
        data = bytearray(piece.file.read_bytes())
        data[piece.offset] ^= 0x10
        sound = piece.file.read_bytes()
        piece.file.write_bytes(data)
        message = message_of(damaged, tmp_path / str(number))
        assert str(piece.file) in message and "CRC-32" in message
        piece.file.write_bytes(sound)
    convert(damaged, tmp_path / "sound")


@pytest.mark.train
@pytest.mark.parametrize("left", [0, 1, 100, 0.5, -1])
def test_a_shorter_shard_is_refused(damaged: Path, tmp_path: Path, left: float) -> None:
    shard = damaged / "__1_0.distcp"
    size = shard.stat().st_size
    os.truncate(shard, size + int(left) if left < 0 else int(left * size) if 0 < left < 1 else int(left))
    assert str(shard) in message_of(damaged, tmp_path / "out")


@pytest.mark.train
def test_a_missing_shard_is_named(damaged: Path, tmp_path: Path) -> None:
    (damaged / "__1_0.distcp").unlink()
    assert message_of(damaged, tmp_path / "out").startswith(f"{damaged / '__1_0.distcp'}: No such file")


@pytest.mark.train
def test_shards_of_another_save_are_refused(real_dcp: Maker, damaged: Path, tmp_path: Path) -> None:
    shutil.copy(real_dcp(3) / "plain" / "__1_0.distcp", damaged / "__1_0.distcp")
    assert str(damaged / "__1_0.distcp") in message_of(damaged, tmp_path / "out")


@pytest.mark.train
@pytest.mark.parametrize("seed", range(60))
def test_no_flipped_bit_of_the_metadata_is_a_traceback_or_a_wrong_tensor(
    damaged: Path, tmp_path: Path, seed: int
) -> None:
    import random

    chance = random.Random(seed)
    sound = {name: bytes_of(tensor) for name, tensor in dcp.read(damaged).items()}
    path = damaged / dcp.METADATA
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    try:
        tensors = dcp.read(damaged)
        found = {name: bytes_of(tensor) for name, tensor in tensors.items()}
    except UserError as error:
        assert str(damaged) in str(error) and "\n" not in str(error)
    else:
        assert [value for name, value in found.items() if name in sound] == [
            sound[name] for name in found if name in sound
        ]


@pytest.mark.train
def test_a_file_outside_of_the_checkpoint_is_not_read(damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "__1_0.distcp").write_bytes((damaged / "__1_0.distcp").read_bytes())
    sound = (damaged / dcp.METADATA).read_bytes()
    name = b"\x8c\x0c__1_0.distcp"
    assert name in sound
    for relative in (b"../__1_0.dis", b"/etc/_passwd", b"a/../../etc/", b"\0etc\0passwd\0"):
        (damaged / dcp.METADATA).write_bytes(sound.replace(name, b"\x8c\x0c" + relative))
        assert "outside of the checkpoint" in message_of(damaged, tmp_path / relative.hex())
    (damaged / dcp.METADATA).write_bytes(sound)
    (damaged / "__1_0.distcp").unlink()
    (damaged / "__1_0.distcp").symlink_to(tmp_path / "__1_0.distcp")
    assert "a link to outside" in message_of(damaged, tmp_path / "link")


@pytest.mark.train
def test_transformed_chunks_are_refused(damaged: Path, tmp_path: Path) -> None:
    import pickle

    from torch.distributed.checkpoint import FileSystemReader  # type: ignore[attr-defined]

    metadata = FileSystemReader(damaged).read_metadata()
    for info in metadata.storage_data.values():
        info.transform_descriptors = ["stream.zstd"]
    (damaged / dcp.METADATA).write_bytes(pickle.dumps(metadata))
    message = message_of(damaged, tmp_path / "out")
    assert str(damaged / dcp.METADATA) in message and "stream.zstd" in message


@pytest.mark.train
def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    import torch
    from torch.distributed.checkpoint.state_dict_saver import save

    torch.serialization.set_crc32_options(False)
    try:
        save({"a": torch.arange(50.0)}, checkpoint_id=tmp_path / "plain", no_dist=True)
    finally:
        torch.serialization.set_crc32_options(True)
    tensor = dcp.read(tmp_path / "plain")["a"]
    assert tensor.pieces[0].checked is None
    assert bytes_of(tensor) == as_bytes(torch.arange(50.0))


@pytest.mark.train
def test_a_dtype_that_safetensors_lacks_is_named(tmp_path: Path) -> None:
    import torch
    from torch.distributed.checkpoint.state_dict_saver import save

    save({"wave": torch.ones(4, dtype=torch.complex64), "a": torch.ones(2)}, checkpoint_id=tmp_path / "c", no_dist=True)
    message = message_of(tmp_path / "c", tmp_path / "out")
    assert "wave" in message and "complex64" in message
    assert dcp.locate(dcp.read_metadata(tmp_path / "c"), ["a"])["a"].shape == (2,)


@pytest.mark.train
def test_reading_needs_no_torch(real_dcp: Maker) -> None:
    program = (
        "import sys; from pathlib import Path; from holdfast.checkpoints import dcp, gather\n"
        "for tensor in dcp.read(Path(sys.argv[1])).values(): list(gather.blocks(tensor))\n"
        "sys.exit(f'loaded {loaded}' if (loaded := {'torch', 'numpy', 'pickle'} & sys.modules.keys()) else 0)"
    )
    command = [sys.executable, "-c", program, str(real_dcp(2) / "fsdp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_checkpoint_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="No such file"):
        dcp.read(tmp_path)
    (tmp_path / dcp.METADATA).write_bytes(b"")
    with pytest.raises(DamagedFile, match="empty"):
        dcp.read(tmp_path)


def test_a_hole_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(100))
    tensor = Tensor("a", "F32", (4, 2), (Piece(tmp_path / "data", 0, (0, 0), (3, 2)),))
    with pytest.raises(DamagedFile, match="6 of 8 elements"):
        copy.write(tmp_path, layout.plan([tensor]))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert tiling.check(Tensor("b", "F32", (0, 2), ())).pieces == ()
