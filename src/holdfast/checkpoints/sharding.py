"""What part of a tensor a rank holds: placements on a mesh of ranks, as PyTorch's DTensor has them.

`Shard(d)` cuts axis d into one part for each rank of its mesh axis, each ceil(size / ranks) long, the last ones shorter
or empty. Several of one axis cut in the order of the mesh, except `_StridedShard`, which cuts what those to its right
left: FSDP over tensor parallelism. `Replicate` cuts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from holdfast.checkpoints.tensors import Checked, Piece, row_major
from holdfast.core.errors import UserError


class Placement(NamedTuple):
    """How one axis of the mesh holds a tensor: `Shard`, `StridedShard`, `Replicate`, `Partial`."""

    kind: str
    dim: int
    split_factor: int


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: `offset` is that of its first element in bytes, `strides` are in elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    file: Path
    offset: int
    checked: Checked | None

    def piece(self, starts: tuple[int, ...] | None = None) -> Piece:
        """It as a part of a tensor, from `starts` on; by default the whole."""
        strides = () if _is_row_major(self.shape, self.strides) else self.strides
        return Piece(self.file, self.offset, starts or (0,) * len(self.shape), self.shape, strides, self.checked)


@dataclass(frozen=True)
class Sharded:
    """A rank's part of a tensor of `shape`. `coordinate` is the rank's place on the mesh, where the file has it."""

    local: Stored
    shape: tuple[int, ...]
    placements: tuple[Placement, ...]
    mesh_shape: tuple[int, ...]
    coordinate: tuple[int, ...] | None

    def piece(self) -> Piece:
        """Its place in the whole.

        Raises:
            UserError: it is a partial sum, its rank is not known, or it has another shape than its placements say.
        """
        where = self.local.file
        if self.coordinate is None or not len(self.coordinate) == len(self.mesh_shape) == len(self.placements):
            raise UserError(f"{where}: a DTensor that does not say which rank it is of", "save it as DCP")
        starts, shape = place(where, self.shape, self.placements, self.mesh_shape, self.coordinate)
        if shape != self.local.shape:
            raise UserError(f"{where}: a part of shape {list(self.local.shape)}, its placement says {list(shape)}")
        return self.local.piece(starts)


def place(
    where: Path,
    shape: tuple[int, ...],
    placements: tuple[Placement, ...],
    mesh_shape: tuple[int, ...],
    coordinate: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First element and shape of what the rank at `coordinate` holds.

    Raises:
        UserError: a placement that holds no part of the tensor (a partial sum, for example).
    """
    starts, sizes = [0] * len(shape), list(shape)
    for axis in _cutting_order(placements):
        placement = placements[axis]
        if placement.kind == "Replicate":
            continue
        dim = placement.dim + len(shape) if placement.dim < 0 else placement.dim
        if placement.kind not in ("Shard", "StridedShard") or not 0 <= dim < len(shape):
            raise UserError(f"{where}: a DTensor placed as {placement.kind}({placement.dim}), which is no part of it")
        part = -(-sizes[dim] // mesh_shape[axis])
        first = min(sizes[dim], part * coordinate[axis])
        starts[dim] += first
        sizes[dim] = min(part, sizes[dim] - first)
    return tuple(starts), tuple(sizes)


def _cutting_order(placements: tuple[Placement, ...]) -> list[int]:
    """Axes of the mesh: the strided ones last, and from right to left."""
    axes = range(len(placements))
    strided = [axis for axis in axes if placements[axis].kind == "StridedShard"]
    return [axis for axis in axes if axis not in strided] + strided[::-1]


def _is_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Axes of one element may have any stride, and so may all of an empty tensor."""
    if 0 in shape:
        return True
    pairs = zip(shape, strides, row_major(shape), strict=True)
    return all(size == 1 or stride == expected for size, stride, expected in pairs)
