"""FSDP checkpoints of verl: one file of `torch.save` for each rank, `model_world_size_W_rank_R.pt`.

Each holds a state dict whose values are the rank's parts: DTensors that say where they belong, or whole tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from holdfast.checkpoints import torch_file
from holdfast.checkpoints.sharding import Sharded, Stored
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import UserError

Parts = dict[tuple[int, ...], Piece]


def read(files: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of which the ranks' files hold parts. What several ranks hold (replicas) is taken once.

    Raises:
        UserError: a file is damaged or holds something else than tensors, or the ranks disagree.
    """
    parts: dict[str, Parts] = {}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        for name, value in _state(file).items():
            if not isinstance(value, Sharded | Stored):
                raise UserError(
                    f"{name} in {file} is a {type(value).__name__}, not a tensor", "give the files of the model"
                )
            local, shape = (value.local, value.shape) if isinstance(value, Sharded) else (value, value.shape)
            if kinds.setdefault(name, (local.dtype, shape)) != (local.dtype, shape):
                raise UserError(
                    f"{name} is {local.dtype} {list(shape)} in {file}, and {kinds[name][0]} {list(kinds[name][1])} in "
                    "the file of another rank",
                    "the files are of different checkpoints",
                )
            piece = value.piece()
            if 0 not in piece.shape or 0 in shape:
                parts.setdefault(name, {}).setdefault(piece.starts, piece)
    return {
        name: Tensor(name, dtype, shape, tuple(parts.get(name, Parts()).values()))
        for name, (dtype, shape) in kinds.items()
    }


def _state(file: Path) -> Mapping[str, object]:
    state = torch_file.read(file)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{file} holds no state dict but a {type(state).__name__}", "give the files of the model")
    return state
