"""Plans the files of a model: which tensor goes where, known to the byte before anything is copied.

The order depends on names, dtypes and sizes alone, so equal models become equal files. Within a file it is that of the
safetensors library, whose `save_file` writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from holdfast.checkpoints.tensors import ITEM_SIZES, Computed, Tensor

Source = Tensor | Computed
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Of one file, as `save_pretrained` had it for years; a tensor that is larger gets a file of its own."""
CAST = ("F64", "F32", "F16", "BF16")
"""What a dtype can be asked for of. Eight-bit floats are left as they are: their scales are other tensors."""
ORDER = (
    "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64",
)  # fmt: skip
"""Dtypes as the safetensors library orders them; the last come first in a file, so that all are aligned."""


@dataclass(frozen=True)
class Place:
    """A tensor of an output file: its bytes, as `dtype`, begin at `offset` of the file."""

    source: Source
    dtype: str
    offset: int

    @property
    def nbytes(self) -> int:
        return prod(self.source.shape) * ITEM_SIZES[self.dtype]


@dataclass(frozen=True)
class OutputFile:
    """A safetensors file to be: its first bytes and its tensors; `size` in bytes."""

    name: str
    header: bytes
    places: tuple[Place, ...]
    size: int


def plan(sources: Iterable[Source], dtype: str | None = None, shard_bytes: int = SHARD_BYTES) -> list[OutputFile]:
    """The files for these tensors, at most `shard_bytes` of tensors each; floating point ones as `dtype` (`"BF16"`)."""
    ordered = sorted(sources, key=lambda source: source.name)
    shards: list[list[Source]] = [[]]
    held = 0
    for source in ordered:
        nbytes = prod(source.shape) * ITEM_SIZES[choose_dtype(source, dtype)]
        if shards[-1] and held + nbytes > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append(source)
        held += nbytes
    return [_plan_file(_name(number, len(shards)), shard, dtype) for number, shard in enumerate(shards, 1)]


def choose_dtype(source: Source, dtype: str | None) -> str:
    """What it is written as when `dtype` is asked for: integers and booleans stay as they are."""
    return dtype if dtype and source.dtype in CAST else source.dtype


def _name(number: int, count: int) -> str:
    return WEIGHTS if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"


def _plan_file(name: str, sources: Sequence[Source], dtype: str | None) -> OutputFile:
    chosen = [(source, choose_dtype(source, dtype)) for source in sources]
    chosen.sort(key=lambda pair: (-ORDER.index(pair[1]), pair[0].name))
    content: dict[str, object] = {"__metadata__": {"format": "pt"}}
    spans: list[tuple[Source, str, int]] = []
    end = 0
    for source, kept in chosen:
        begin, end = end, end + prod(source.shape) * ITEM_SIZES[kept]
        content[source.name] = {"dtype": kept, "shape": list(source.shape), "data_offsets": [begin, end]}
        spans.append((source, kept, begin))
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    places = tuple(Place(source, kept, len(header) + begin) for source, kept, begin in spans)
    return OutputFile(name, header, places, len(header) + end)


def make_index(files: Sequence[OutputFile]) -> bytes | None:
    """The contents of `model.safetensors.index.json`; None for a single file, which needs none."""
    if len(files) < 2:
        return None
    places = [place for file in files for place in file.places]
    totals = {
        "total_parameters": sum(prod(place.source.shape) for place in places),
        "total_size": sum(place.nbytes for place in places),
    }
    weight_map = {place.source.name: file.name for file in files for place in file.places}
    return (json.dumps({"metadata": totals, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n").encode()
