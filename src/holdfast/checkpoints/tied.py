"""An output layer that is the embedding: stored once, if it really is.

Trainers often save both. One is dropped only where the config ties them and every byte is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from holdfast.checkpoints import gather
from holdfast.checkpoints.tensors import Tensor
from holdfast.core.errors import UserError


def name_by_twin(tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors, with one that was saved only under the name of its twin under its own."""
    named = dict(tensors)
    for name, other in tied.items():
        if name in named and other not in named:
            named[other] = replace(named.pop(name), name=other)
    return named


def drop(tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without those that are others, and why each was left out.

    Raises:
        UserError: the config ties two tensors that are not equal.
    """
    kept, dropped = dict(tensors), dict[str, str]()
    for name, other in tied.items():
        if name not in kept or other not in kept:
            continue
        twin = kept.pop(name)
        if equal(twin, kept[other]):
            dropped[name] = f"equal to {other}, and the config ties them"
        else:
            raise UserError(
                f"the config ties {name} to {other} (tie_word_embeddings), but the checkpoint holds different "
                f"values in them: {_describe(twin)} and {_describe(kept[other])}",
                "this is the config of another model; to keep both, override tie_word_embeddings=false",
            )
    return kept, dropped


def equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same bytes, however they lie in files."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    if first.pieces == second.pieces:
        return True
    return all(one == other for one, other in zip(gather.blocks(first), gather.blocks(second), strict=True))


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {'x'.join(map(str, tensor.shape))}"
