"""Real checkpoints, written by real processes of torchrun, once a session for each number of ranks.

The fixture `real_dcp` (tests elsewhere import it into their conftest.py) is called with a number of ranks and gives a
directory. It holds the DCPs `fsdp` (FSDP2, with an optimizer) and `plain` (DTensors, all dtypes, things that are no
tensors); for 4 ranks also `mesh` (2-D), `hybrid` (HSDP) and `tensor_parallel` (FSDP2 over TP); for each of them, in
`*_ranks`, what `torch.save` makes of each rank's state (as verl does); and `safetensors`, what torch's
HuggingFaceStorageWriter leaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SIZES = (1, 2, 3, 4)
Maker = Callable[[int], Path]


def write_checkpoints(directory: Path, ranks: int) -> None:
    """
    Raises:
        RuntimeError: torchrun failed; its words.
    """
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        (*command, "-m", "tests.checkpoints.write_dcp", str(directory)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


@pytest.fixture(scope="session")
def real_dcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """The directory of what so many ranks wrote."""
    made: dict[int, Path] = {}

    def make(ranks: int) -> Path:
        if ranks not in made:
            directory = tmp_path_factory.mktemp(f"ranks_{ranks}")
            write_checkpoints(directory, ranks)
            made[ranks] = directory
        return made[ranks]

    yield make


def load_with_torch(directory: Path) -> dict[str, Any]:
    """All tensors of a DCP as torch's own loader has them, by flat name."""
    import torch
    from torch.distributed.checkpoint import FileSystemReader  # type: ignore[attr-defined]
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    stored = FileSystemReader(directory).read_metadata().state_dict_metadata
    state = {
        name: torch.empty(each.size, dtype=each.properties.dtype)
        for name, each in stored.items()
        if isinstance(each, TensorStorageMetadata)
    }
    load(state, checkpoint_id=directory, no_dist=True)
    return state


def as_bytes(tensor: Any) -> bytes:
    """Bits of a torch tensor, row-major."""
    import torch

    return bytes(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()) if tensor.numel() else b""
