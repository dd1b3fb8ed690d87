"""A checkpoint as a table: its tensors, their dtypes, how they are sharded, how large they are. Needs no config."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from holdfast.checkpoints import contents
from holdfast.checkpoints.contents import Entry
from holdfast.checkpoints.names import why_not
from holdfast.checkpoints.recognise import Recognised, recognise
from holdfast.checkpoints.tensors import ITEM_SIZES


@dataclass(frozen=True)
class Row:
    """One tensor, under the name that it has in the checkpoint."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sharding: str
    """`whole`, `Shard(0) x4`, `2x2 mesh of axes 0 and 1`, or a number of pieces that form no grid."""
    nbytes: int
    remark: str
    """Why a conversion leaves it out; empty if it does not."""


@dataclass(frozen=True)
class Description:
    recognised: Recognised
    rows: tuple[Row, ...]
    others: dict[str, str]
    """Names of what is no tensor, and what it is."""
    totals: dict[str, tuple[int, int, int]]
    """Dtype to (tensors, elements, bytes)."""


def describe(path: Path) -> Description:
    """What lies in a checkpoint.

    Raises:
        UserError: it is none, or is damaged.
    """
    found = recognise(path)
    content = contents.read(found)
    rows = tuple(_row(name, entry) for name, entry in sorted(content.entries.items()))
    totals: dict[str, tuple[int, int, int]] = {}
    for row in rows:
        tensors, elements, size = totals.get(row.dtype, (0, 0, 0))
        totals[row.dtype] = (tensors + 1, elements + prod(row.shape), size + row.nbytes)
    return Description(found, rows, dict(sorted(content.others.items())), dict(sorted(totals.items())))


def name_sharding(entry: Entry) -> str:
    """In DTensor's words. How a replica lies on the ranks no format keeps, so that it is `whole`."""
    parts = {(starts, shape) for starts, shape in entry.parts if 0 not in shape} or {((), ())}
    if len(parts) == 1:
        return "whole"
    axes = range(len(entry.shape))
    cuts = {axis: len({starts[axis] for starts, _ in parts}) for axis in axes}
    cut = {axis: count for axis, count in cuts.items() if count > 1}
    if prod(cut.values()) != len(parts):
        return f"{len(parts)} pieces"
    if len(cut) == 1:
        ((axis, count),) = cut.items()
        return f"Shard({axis}) x{count}"
    return f"{'x'.join(map(str, cut.values()))} mesh of axes {' and '.join(map(str, cut))}"


def _row(name: str, entry: Entry) -> Row:
    size = prod(entry.shape) * ITEM_SIZES[entry.dtype]
    return Row(name, entry.dtype, entry.shape, name_sharding(entry), size, why_not(name) or "")
