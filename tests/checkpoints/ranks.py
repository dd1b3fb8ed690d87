"""A model saved by several real ranks: started as a program, once for each.

`python -m tests.checkpoints.ranks RANK WORLD MODE DIRECTORY KIND MESH` shards `make_model(KIND, seed=1)` with FSDP2
over a mesh (`2`, or `2x2` for replicas of shards) and saves it as `dcp`, `shards` (safetensors), or `verl`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tiny import one_thread

REPOSITORY = Path(__file__).resolve().parents[2]


def save_with_ranks(directory: Path, mode: str, kind: str = "qwen3", mesh: str = "2") -> Path:
    """What `mode` leaves in `directory`."""
    world = 1
    for part in mesh.split("x"):
        world *= int(part)
    directory.mkdir(parents=True)
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    command = [sys.executable, "-m", "tests.checkpoints.ranks"]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(world), mode, str(directory), kind, mesh],
            env={**one_thread(), "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    ends = [(rank.communicate()[1], rank.returncode) for rank in ranks]
    assert not any(code for _, code in ends), ends
    return directory


def main() -> None:
    rank, world, mode, where, kind, mesh = sys.argv[1:]
    directory = Path(where)
    import torch
    from tests.checkpoints.models import make_model
    from torch.distributed import barrier, destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    rendezvous = f"file://{directory.parent}/rendezvous-{directory.name}"
    init_process_group("gloo", init_method=rendezvous, rank=int(rank), world_size=int(world))
    sizes = tuple(map(int, mesh.split("x")))
    names = ("replicate", "shard")[-len(sizes) :]
    model: Any = make_model(kind, seed=1)
    device_mesh = init_device_mesh("cpu", sizes, mesh_dim_names=names)
    for layer in model.model.layers:
        fully_shard(layer, mesh=device_mesh)
    fully_shard(model, mesh=device_mesh)
    _save(model.state_dict(), mode, directory, f"model_world_size_{world}_rank_{rank}.pt", torch)
    barrier()
    destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that ends in order


def _save(state: dict[str, Any], mode: str, directory: Path, rank_file: str, torch: Any) -> None:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    if mode == "verl":
        torch.save(state, directory / rank_file)
    elif mode == "shards":
        save(state, storage_writer=HuggingFaceStorageWriter(str(directory), save_distributed=True))
    else:
        save({"model": state}, checkpoint_id=directory)


if __name__ == "__main__":
    main()
