"""What `bench/convert.py` runs, each as a process of its own: makes a checkpoint, and converts it in several ways.

python bench/dcp_workload.py write DIR GIGABYTES DTYPE     under torchrun with 4 processes
python bench/dcp_workload.py ours SOURCE TARGET [DTYPE]
python bench/dcp_workload.py torch SOURCE TARGET           dcp_to_torch_save, then safetensors' save_file
python bench/dcp_workload.py stream SOURCE TARGET          dcp.load, one output file at a time
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HIDDEN, INNER, VOCABULARY = 2048, 5632, 32768
STREAMED = 500_000_000
"""Bytes of tensors that the streaming conversion holds at once."""


def layer_shapes(number: int) -> dict[str, tuple[tuple[int, int], int]]:
    """Shape of each matrix of a layer, and the axis along which it is sharded."""
    below = f"model.layers.{number}"
    attention = {f"{below}.self_attn.{name}_proj.weight": ((HIDDEN, HIDDEN), 0) for name in "qkv"}
    inner = {f"{below}.mlp.{name}_proj.weight": ((INNER, HIDDEN), 0) for name in ("gate", "up")}
    columns = {
        f"{below}.self_attn.o_proj.weight": ((HIDDEN, HIDDEN), 1),
        f"{below}.mlp.down_proj.weight": ((HIDDEN, INNER), 1),
    }
    return {**attention, **inner, **columns}


def shapes(gigabytes: float, item: int) -> dict[str, tuple[tuple[int, int], int]]:
    """The matrices of a model of about this size."""
    found = {"model.embed_tokens.weight": ((VOCABULARY, HIDDEN), 0), "lm_head.weight": ((VOCABULARY, HIDDEN), 0)}
    number = 0
    while sum(rows * columns for (rows, columns), _ in found.values()) * item < gigabytes * 1e9:
        found |= layer_shapes(number)
        number += 1
    return found


def write(directory: Path, gigabytes: float, dtype: str) -> None:
    """Save a checkpoint with torch, as the rank that this is; values are random, and each rank makes its own."""
    import torch
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict_saver import save
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard

    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,))
    generator = torch.Generator().manual_seed(dist.get_rank())
    kind = getattr(torch, dtype)
    state = {}
    for name, (shape, axis) in shapes(gigabytes, kind.itemsize).items():
        local = [size // ranks if at == axis else size for at, size in enumerate(shape)]
        values = torch.empty(local, dtype=kind).uniform_(-1, 1, generator=generator)
        state[name] = DTensor.from_local(values, mesh, [Shard(axis)], run_check=False)
    save({"model": state}, checkpoint_id=directory)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that ends in order


def convert(source: Path, target: Path, dtype: str | None) -> None:
    """Everything that a conversion does with the bytes: read, check, copy, sync, digest."""
    from holdfast.checkpoints import copy, dcp, layout
    from holdfast.core import artifact, files

    target.mkdir()
    planned = layout.plan(dcp.read(source).values(), dtype)
    copy.write(target, planned)
    index = layout.make_index(planned)
    if index:
        files.write_durably(target / layout.INDEX, index)
    sealed = artifact.seal(target, {})
    files.write_durably(target / artifact.MANIFEST, files.encode(dict(sealed.content)))
    files.fsync_path(target)


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def convert_whole(source: Path, target: Path) -> None:
    """The recipe that is in use: the whole checkpoint in memory, twice on disk."""
    import torch
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    target.mkdir()
    dcp_to_torch_save(source, target / "pytorch_model.bin")
    state = torch.load(target / "pytorch_model.bin", weights_only=True)
    save_file(state["model"], target / "model.safetensors", metadata={"format": "pt"})
    sync(target / "model.safetensors")


def convert_streaming(source: Path, target: Path) -> None:
    """`dcp.load` of as many tensors as fit an output file, one file after another."""
    import torch
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.state_dict_loader import load

    target.mkdir()
    for number, group in enumerate(_group(source)):
        state = {name: torch.empty(shape, dtype=dtype) for name, shape, dtype in group}
        load(state, checkpoint_id=source, no_dist=True)
        path = target / f"model-{number:05}.safetensors"
        save_file(state, path, metadata={"format": "pt"})
        sync(path)


def _group(source: Path) -> Iterator[list[tuple[str, torch.Size, torch.dtype]]]:
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    group = []
    held = 0
    for name, tensor in sorted(FileSystemReader(source).read_metadata().state_dict_metadata.items()):
        assert isinstance(tensor, TensorStorageMetadata)
        group.append((name, tensor.size, tensor.properties.dtype))
        held += tensor.size.numel() * tensor.properties.dtype.itemsize
        if held >= STREAMED:
            yield group
            group, held = [], 0
    if group:
        yield group


def main() -> None:
    action, *rest = sys.argv[1:]
    source = Path(rest[0])
    if action == "write":
        write(source, float(rest[1]), rest[2])
    elif action == "ours":
        convert(source, Path(rest[1]), rest[2] if len(rest) > 2 else None)
    elif action == "torch":
        convert_whole(source, Path(rest[1]))
    else:
        convert_streaming(source, Path(rest[1]))


if __name__ == "__main__":
    main()
