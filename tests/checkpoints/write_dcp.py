"""Writes checkpoints the way trainers do, as one rank of a torchrun: see `real_dcp`.

torchrun --standalone --nproc-per-node N -m tests.checkpoints.write_dcp DIR
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

State = dict[str, Any]


class Block(torch.nn.Module):
    """Two matrices whose sizes no number of ranks divides, and what a model has besides."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(6, 11)
        self.down = torch.nn.Linear(11, 6, bias=False)
        self.norm = torch.nn.LayerNorm(6)
        self.register_buffer("steps", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.down(torch.relu(self.up(x))))  # type: ignore[no-any-return]


class Even(torch.nn.Module):
    """Sizes that tensor parallelism can divide."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(6, 16, bias=False)
        self.down = torch.nn.Linear(16, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))  # type: ignore[no-any-return]


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def fsdp(mesh: DeviceMesh) -> tuple[State, State]:
    """A model of FSDP2 after one step of Adam, and its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(Block(), Block())
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(random(3, 6)).sum().backward()
    optimizer.step()
    return get_model_state_dict(model), get_optimizer_state_dict(model, optimizer)


def plain(mesh: DeviceMesh) -> State:
    """DTensors in one dimension: uneven and empty shards, columns, replicas; each dtype; and things that are none."""
    ranks = mesh.size()
    rows = {f"rows_{n}": distribute_tensor(random(n, 6), mesh, [Shard(0)]) for n in (1, 3, 4, 11)}
    types = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool)
    return {
        **rows,
        "columns": distribute_tensor(random(5, 4 * ranks), mesh, [Shard(1)]),
        "wide": distribute_tensor(random(3, 300 * ranks, dtype=torch.bfloat16), mesh, [Shard(1)]),
        "experts": distribute_tensor(random(4, 2 * ranks, 3), mesh, [Shard(1)]),
        "last": distribute_tensor(random(2, 3, ranks), mesh, [Shard(2)]),
        "replica": distribute_tensor(random(4, 3), mesh, [Replicate()]),
        "half": distribute_tensor(random(7, 3, dtype=torch.bfloat16), mesh, [Shard(0)]),
        **{str(dtype).removeprefix("torch."): (random(9) * 50).to(dtype) for dtype in types},
        "eight_bits": random(4, 4).to(torch.float8_e4m3fn),
        "transposed": random(4, 6).t(),
        "channels_last": random(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slice": random(8, 8)[2:5, 1:7],
        "scalar": torch.tensor(1.5),
        "nothing": torch.empty(0, 4),
        "step": 7,
        "words": ["a", "b"],
    }


def two_dimensional(mesh: DeviceMesh) -> State:
    """DTensors on a mesh of two dimensions."""
    placements: dict[str, list[Placement]] = {
        "both": [Shard(0), Shard(1)],
        "swapped": [Shard(1), Shard(0)],
        "twice": [Shard(0), Shard(0)],
        "hybrid": [Replicate(), Shard(0)],
        "columns": [Shard(1), Replicate()],
    }
    return {
        name: distribute_tensor(random(9 if name == "twice" else 8, 6), mesh, at) for name, at in placements.items()
    }


def tensor_parallel(mesh: DeviceMesh) -> State:
    """FSDP2 over tensor parallelism: rows are sharded twice, in the order that is not that of the mesh."""
    torch.manual_seed(0)
    model = Even()
    parallelize_module(model, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    return get_model_state_dict(model)


def main() -> None:
    directory = Path(sys.argv[1])
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (ranks,))
    model, optimizer = fsdp(mesh)
    states: dict[str, Callable[[], State]] = {
        "fsdp": lambda: {"model": model, "optimizer": optimizer},
        "plain": lambda: {"model": plain(mesh)},
    }
    if ranks == 4:
        square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        states |= {
            "mesh": lambda: two_dimensional(square),
            "hybrid": lambda: fsdp(square)[0],
            "tensor_parallel": lambda: tensor_parallel(square),
        }
    for name, make in states.items():
        state = make()
        save(state, checkpoint_id=directory / name)
        (directory / f"{name}_ranks").mkdir(exist_ok=True)
        torch.save(state.get("model", state), directory / f"{name}_ranks" / f"model_world_size_{ranks}_rank_{rank}.pt")
    writer = HuggingFaceStorageWriter(str(directory / "safetensors"), save_distributed=True)
    save({name: value for name, value in model.items() if value.ndim}, storage_writer=writer)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that ends in order


if __name__ == "__main__":
    main()
