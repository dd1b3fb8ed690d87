"""Reads the headers of safetensors files: names, dtypes, shapes, and where the bytes lie.

Also the shards that torch's `HuggingFaceStorageWriter` leaves, a file for each rank: which part of a tensor each holds
is in the file's metadata, under `DCP_SHARDING_INFO`. The format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from holdfast.checkpoints import torch_file
from holdfast.checkpoints.tensors import ITEM_SIZES, Piece, Tensor
from holdfast.core.errors import DamagedFile, UserError

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""
SHARDING = "DCP_SHARDING_INFO"
EXTRA = "__metadata__"


@dataclass(frozen=True)
class Header:
    """What a file says that it holds. `metadata` is free text, by key."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read(paths: Iterable[Path]) -> dict[str, Tensor]:
    """The tensors of several files, those that ranks wrote in parts put together.

    Raises:
        DamagedFile: a header that is torn or contradicts itself or the file, or a tensor that is in two files.
        UserError: a dtype that is not known.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        header = read_header(path)
        for name, tensor in _place_shards(header).items():
            found[name] = _join(path, found[name], tensor) if name in found else tensor
    return found


def _place_shards(header: Header) -> Mapping[str, Tensor]:
    if SHARDING not in header.metadata:
        return header.tensors
    try:
        info = json.loads(header.metadata[SHARDING])
        starts = {name: tuple(info[name]["saved_offsets"]) for name in header.tensors}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(header.path, f"its {SHARDING} does not say where each of its tensors belongs") from None
    return {name: _shift(header.path, tensor, starts[name]) for name, tensor in header.tensors.items()}


def _shift(path: Path, tensor: Tensor, starts: tuple[Any, ...]) -> Tensor:
    """The shape of the whole is nowhere: it reaches as far as its parts do."""
    if len(starts) != len(tensor.shape) or not all(type(start) is int and start >= 0 for start in starts):
        raise _damaged(path, f"{tensor.name} of shape {list(tensor.shape)} begins at {list(starts)}")
    whole = tuple(start + size for start, size in zip(starts, tensor.shape, strict=True))
    return replace(tensor, shape=whole, pieces=tuple(replace(piece, starts=starts) for piece in tensor.pieces))


def _join(path: Path, one: Tensor, other: Tensor) -> Tensor:
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        raise _damaged(path, f"{other.name} is {other.dtype} here and {one.dtype} in {one.pieces[0].file.name}")
    shape = tuple(map(max, one.shape, other.shape))
    pieces = one.pieces + other.pieces
    if len({piece.starts for piece in pieces}) < len(pieces):
        raise _damaged(path, f"{other.name} is also in {one.pieces[0].file.name}")
    return replace(one, shape=shape, pieces=pieces)


def read_header(path: Path) -> Header:
    """What one file holds.

    Raises: as `read`.
    """
    fd = torch_file.open_file(path)
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise _damaged(path, f"{size} bytes, and a header of {length}")
        content = _parse(path, file.read(length))
    extra = content.pop(EXTRA, {})
    if not isinstance(extra, dict) or not all(isinstance(value, str) for value in extra.values()):
        raise _damaged(path, f"its {EXTRA} holds other things than text")
    tensors = {name: _read_tensor(path, name, entry, 8 + length) for name, entry in content.items()}
    _check_order(path, tensors, 8 + length, size)
    return Header(path, tensors, extra)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON: {str(error)[:100]}") from None
    if not isinstance(content, dict):
        raise _damaged(path, "its header is no mapping")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content


def _read_tensor(path: Path, name: str, entry: Any, data: int) -> Tensor:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2 or len(shape) > 64:
        raise _damaged(path, f"{name[:200]} has no shape or no place")
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        raise UserError(f"{path}: {name} is of dtype {dtype!r}, which is not known")
    begin, end = offsets
    if end - begin != prod(shape) * ITEM_SIZES[dtype]:
        raise _damaged(path, f"{name} of {dtype} {list(shape)} has {end - begin} bytes")
    return Tensor(name, dtype, shape, (Piece(path, data + begin, (0,) * len(shape), shape),))


def _sizes(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 2**63 for size in value):
        return None
    return tuple(value)


def _check_order(path: Path, tensors: Mapping[str, Tensor], at: int, size: int) -> None:
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.pieces[0].offset, tensor.nbytes)):
        if tensor.pieces[0].offset != at:
            raise _damaged(path, f"{tensor.name} begins at byte {tensor.pieces[0].offset}, expected {at}")
        at += tensor.nbytes
    if at != size:
        raise _damaged(path, f"{size} bytes, its header says {at}")


def _damaged(path: Path, what: str) -> DamagedFile:
    return DamagedFile(f"{path}: {what}", "the file is truncated, damaged, or still being written")
