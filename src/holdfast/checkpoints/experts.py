"""Experts that lie in one tensor in memory, as the tensors of single experts that model directories hold.

transformers 5 trains mixture-of-experts models with the weights of all experts stacked, gate and up projection in one,
and takes them apart in `save_pretrained`. A checkpoint of the trainer's memory has the stacked names. An expert's rows
lie together in every piece, so taking them apart moves no byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from holdfast.checkpoints.architectures.templates import Shape
from holdfast.checkpoints.tensors import ITEM_SIZES, Piece, Tensor, row_major

GATE_UP, DOWN = ".experts.gate_up_proj", ".experts.down_proj"


@dataclass(frozen=True)
class Spelling:
    """How a family of models writes single experts."""

    block: tuple[str, str]
    """What the block is called in memory and in files."""
    gate: str
    up: str
    down: str


SPELLINGS = (
    Spelling((".mlp.", ".mlp."), "gate_proj", "up_proj", "down_proj"),
    Spelling((".mlp.", ".block_sparse_moe."), "w1", "w3", "w2"),  # Mixtral
)


def unstack(tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The same tensors, with stacked experts apart where `wanted` has them apart; those that fit already are kept."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        result.update((each.name, each) for each in _apart(name, tensor, wanted))
    return result


def _apart(name: str, tensor: Tensor, wanted: Mapping[str, Shape]) -> Iterator[Tensor]:
    if name in wanted or ".mlp." not in name:
        yield rename(tensor, name)
        return
    for spelling in SPELLINGS:
        parts = list(_parts(name, tensor, spelling))
        if all(part.name in wanted for part in parts):
            yield from parts
            return
    yield rename(tensor, name)


def _parts(name: str, tensor: Tensor, spelling: Spelling) -> Iterator[Tensor]:
    target = name.replace(*spelling.block)
    stem, _, _ = target.rpartition(".experts.")
    if not name.endswith((GATE_UP, DOWN)) or len(tensor.shape) != 3:
        yield rename(tensor, target)
        return
    experts, rows, _ = tensor.shape
    for expert in range(experts):
        front = f"{stem}.experts.{expert}"
        if name.endswith(DOWN):
            yield take_rows(tensor, f"{front}.{spelling.down}.weight", expert, 0, rows)
        else:
            yield take_rows(tensor, f"{front}.{spelling.gate}.weight", expert, 0, rows // 2)
            yield take_rows(tensor, f"{front}.{spelling.up}.weight", expert, rows // 2, rows)


def take_rows(tensor: Tensor, name: str, index: int, start: int, stop: int) -> Tensor:
    """`tensor[index, start:stop]` as a tensor of its own, in the same bytes of the same files."""
    pieces = tuple(filter(None, (_cut(piece, tensor.dtype, index, start, stop) for piece in tensor.pieces)))
    return Tensor(name, tensor.dtype, (stop - start, *tensor.shape[2:]), pieces)


def rename(tensor: Tensor, name: str) -> Tensor:
    return tensor if name == tensor.name else replace(tensor, name=name)


def _cut(piece: Piece, dtype: str, index: int, start: int, stop: int) -> Piece | None:
    first, last = max(start, piece.starts[1]), min(stop, piece.starts[1] + piece.shape[1])
    if not piece.starts[0] <= index < piece.starts[0] + piece.shape[0] or first >= last:
        return None
    strides = piece.strides or row_major(piece.shape)
    skipped = (index - piece.starts[0]) * strides[0] + (first - piece.starts[1]) * strides[1]
    return replace(
        piece,
        offset=piece.offset + skipped * ITEM_SIZES[dtype],
        starts=(first - start, *piece.starts[2:]),
        shape=(last - first, *piece.shape[2:]),
        strides=strides[1:] if piece.strides else (),
    )
