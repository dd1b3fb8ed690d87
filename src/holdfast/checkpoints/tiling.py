"""Checks that the pieces of a tensor tile it: every element in exactly one piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import DamagedFile

MOST_TANGLED = 4096
"""Pieces that may lie so that no straight cut parts them; they are compared in pairs. No sharding makes any."""


def check(tensor: Tensor) -> Tensor:
    """The tensor without empty pieces and with one of each set of replicas.

    The volumes of the pieces add up to that of the tensor, and no two overlap: so there is no hole. Overlaps are looked
    for where straight cuts do not part the pieces, which is n log n for anything that meshes of ranks make.

    Raises:
        DamagedFile: there is a hole or an overlap, or a piece reaches outside.
    """
    unique: dict[tuple[tuple[int, ...], tuple[int, ...]], Piece] = {}
    for piece in tensor.pieces:
        _check_bounds(tensor, piece)
        if 0 not in piece.shape:
            unique.setdefault((piece.starts, piece.shape), piece)
    pieces = tuple(unique.values())
    pair = _find_overlap(pieces, len(tensor.shape))
    if pair:
        raise _wrong(tensor, f"{_name(pair[0])} and {_name(pair[1])} overlap", pair[1])
    held, whole = sum(prod(piece.shape) for piece in pieces), prod(tensor.shape)
    if held != whole:
        raise _wrong(tensor, f"its {len(pieces)} pieces hold {held} of {whole} elements", *pieces[:1])
    return replace(tensor, pieces=pieces)


def _check_bounds(tensor: Tensor, piece: Piece) -> None:
    axes = len(tensor.shape)
    if len(piece.starts) != axes or len(piece.shape) != axes or len(piece.strides or tensor.shape) != axes:
        raise _wrong(tensor, f"{_name(piece)} has another number of axes", piece)
    for start, size, extent in zip(piece.starts, piece.shape, tensor.shape, strict=True):
        if start < 0 or size < 0 or start + size > extent:
            raise _wrong(tensor, f"{_name(piece)} reaches outside", piece)


def _find_overlap(pieces: Sequence[Piece], axes: int) -> tuple[Piece, Piece] | None:
    """Two pieces (none of them empty) that share an element."""
    groups = [list(pieces)]
    while groups:
        group = groups.pop()
        if len(group) < 2:
            continue
        for axis in range(axes):
            parts = list(_cut(group, axis))
            if len(parts) > 1:
                groups.extend(parts)
                break
        else:
            if pair := _find_tangled(group):
                return pair
    return None


def _cut(group: list[Piece], axis: int) -> Iterator[list[Piece]]:
    """The group in parts that do not reach into each other along `axis`."""
    ordered = sorted(group, key=lambda piece: piece.starts[axis])
    first, end = 0, 0
    for at, piece in enumerate(ordered):
        if at > first and piece.starts[axis] >= end:
            yield ordered[first:at]
            first = at
        end = max(end, piece.starts[axis] + piece.shape[axis])
    yield ordered[first:]


def _find_tangled(group: list[Piece]) -> tuple[Piece, Piece] | None:
    if len(group) > MOST_TANGLED:
        return group[0], group[1]
    pairs = ((one, other) for at, one in enumerate(group) for other in group[:at])
    return next((pair for pair in pairs if _overlap(*pair)), None)


def _overlap(one: Piece, other: Piece) -> bool:
    spans = zip(one.starts, one.shape, other.starts, other.shape, strict=True)
    return all(a < b + b_size and b < a + a_size for a, a_size, b, b_size in spans)


def _name(piece: Piece) -> str:
    return f"the piece at {list(piece.starts)} of shape {list(piece.shape)}"


def _wrong(tensor: Tensor, what: str, *where: Piece) -> DamagedFile:
    place = f"{where[0].file}: " if where else ""
    return DamagedFile(f"{place}{tensor.name} of shape {list(tensor.shape)}: {what}", "the checkpoint is incomplete")
