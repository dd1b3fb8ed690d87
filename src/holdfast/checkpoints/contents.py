"""The tensors of a recognised checkpoint, whatever its format: first what there is, then where its bytes are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from holdfast.checkpoints import dcp, safetensors_file, shards, snapshots, torch_file, verl
from holdfast.checkpoints.recognise import Recognised
from holdfast.checkpoints.sharding import Sharded, Stored
from holdfast.checkpoints.snapshots import Snapshot
from holdfast.checkpoints.tensors import Tensor
from holdfast.core.errors import UserError

Place = tuple[tuple[int, ...], tuple[int, ...]]
"""First element and shape of a part."""


@dataclass(frozen=True)
class Entry:
    """A tensor before anybody looked for its bytes."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Place, ...]


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds."""

    entries: Mapping[str, Entry]
    others: Mapping[str, str]
    """Names of what is no tensor, or none that can be written, and why."""
    files: frozenset[Path]
    """All that has to stay as it is until the conversion ends."""
    locate: Callable[[Collection[str]], dict[str, Tensor]]
    """The tensors of some names, with the places of their bytes. Raises what the format's reader raises."""
    described: Snapshot = field(default_factory=dict)
    """The files that say all this, as they were before the first of them was read."""


def read(found: Recognised) -> Contents:
    """What the checkpoint holds.

    Raises:
        UserError: it is damaged, or holds what cannot be read.
    """
    described = snapshots.take([found.weights / dcp.METADATA] if found.format == "dcp" else found.files)
    return replace(_read(found), described=described)


def _read(found: Recognised) -> Contents:
    if found.format == "dcp":
        return _of_dcp(found.weights)
    if found.format == "verl":
        tensors = verl.read(found.files)
    elif found.format == "torch file":
        tensors = _of_torch_files(found.files)
    elif found.format == "model directory":
        tensors = shards.read_model(found.weights)
    else:
        tensors = safetensors_file.read(found.files)
    return _of_tensors(tensors, found.files)


def _of_dcp(directory: Path) -> Contents:
    metadata = dcp.read_metadata(directory)
    entries = {
        name: Entry(each.dtype, each.shape, tuple((chunk.starts, chunk.shape) for chunk in each.chunks))
        for name, each in metadata.tensors.items()
    }
    others = dict.fromkeys(metadata.others, "not a tensor")
    others |= {name: f"of {dtype}, which safetensors does not have" for name, dtype in metadata.unreadable.items()}
    return Contents(entries, others, frozenset(metadata.files), lambda names: dcp.locate(metadata, names))


def _of_tensors(tensors: Mapping[str, Tensor], files: Collection[Path]) -> Contents:
    entries = {
        name: Entry(each.dtype, each.shape, tuple((piece.starts, piece.shape) for piece in each.pieces))
        for name, each in tensors.items()
    }
    return Contents(entries, {}, frozenset(files), lambda names: {name: tensors[name] for name in names})


def _of_torch_files(files: Collection[Path]) -> dict[str, Tensor]:
    """State dicts of whole tensors; `{"model": ...}` and the like are opened."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, value in _flatten(torch_file.read(file)).items():
            if isinstance(value, Sharded):
                raise UserError(f"{file} holds a part of {name}", "give the directory with the files of all ranks")
            if isinstance(value, Stored):
                if name in tensors:
                    raise UserError(f"{name} is in two files of {file.parent}", "keep one of the two")
                tensors[name] = Tensor(name, value.dtype, value.shape, (value.piece(),))
    if not tensors:
        raise UserError(f"no tensors in {', '.join(map(str, files))}", "give the weights of a model")
    return tensors


def _flatten(state: object, front: str = "") -> dict[str, object]:
    if not isinstance(state, Mapping):
        return {}
    flat: dict[str, object] = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{front}{key}."))
        else:
            flat[f"{front}{key}"] = value
    return flat
