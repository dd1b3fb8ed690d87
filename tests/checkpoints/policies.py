"""Writes the weights of a policy as NeMo RL's trainers do, as one rank of a torchrun.

torchrun --standalone --nproc-per-node N -m tests.checkpoints.policies [WEIGHTS LAYOUT DIRECTORY]...

`fsdp` shards with FSDP2, `plain` spreads DTensors over rows, columns or nothing, and `mesh` (4 ranks) over two
dimensions. What is saved is `{"model": state dict}`, the DTensor policy v1 of NeMo RL.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def write_policies(ranks: int, wanted: Sequence[tuple[Path, str, Path]]) -> None:
    """Save each (weights in safetensors, layout, directory), all by the same ranks.

    Raises:
        RuntimeError: torchrun failed; its words.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    arguments = [str(each) for one in wanted for each in one]
    done = subprocess.run(
        [*command, "-m", "tests.checkpoints.policies", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


def main() -> None:
    import torch.distributed as dist
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict_saver import save

    dist.init_process_group("gloo")
    wanted = iter(sys.argv[1:])
    for weights, layout, directory in zip(wanted, wanted, wanted, strict=True):
        save({"model": LAYOUTS[layout](load_file(weights))}, checkpoint_id=directory)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that ends in order


def fsdp(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Each layer, and the rest, sharded over all ranks."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    root: Any = _modules(state)
    for layer in root.model.layers.children():
        fully_shard(layer, mesh=mesh)
    fully_shard(root, mesh=mesh)
    return dict(root.state_dict())


def _modules(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Modules that have exactly these parameters: FSDP asks no more of a model."""
    import torch

    root = torch.nn.Module()
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        place = root
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.register_parameter(leaf, torch.nn.Parameter(tensor))
    return root


def plain(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """DTensors in turn in rows, in columns (of matrices), and whole on every rank."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    found = {}
    for number, (name, tensor) in enumerate(state.items()):
        place = [Shard(0), Shard(tensor.ndim - 1), Replicate()][number % 3]
        found[name] = distribute_tensor(tensor, mesh, [place])
    return found


def mesh(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Matrices cut in both directions, vectors in one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    return {
        name: distribute_tensor(tensor, square, [Shard(0), Shard(1) if tensor.ndim > 1 else Replicate()])
        for name, tensor in state.items()
    }


LAYOUTS = {"fsdp": fsdp, "plain": plain, "mesh": mesh}

if __name__ == "__main__":
    main()
