"""Reads checkpoints of `torch.distributed.checkpoint` (DCP), without torch and without running what is in them.

`.metadata` is a pickle that says which tensors there are and in which part of which file each of their chunks lies. A
chunk is a whole archive of `torch.save` inside a `.distcp` file; the raw bytes of its tensor are a stored member of it.
What is no tensor (a count of steps, the state of a random generator) is a pickle of its own, and is never read.
The format is that of torch/distributed/checkpoint/{metadata,filesystem}.py, torch 2.0 to 2.13.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from holdfast.checkpoints import restricted_pickle, torch_file, torch_names
from holdfast.checkpoints.restricted_pickle import Global, Maker, Object
from holdfast.checkpoints.sharding import Stored
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.checkpoints.zip_archive import Window
from holdfast.core.errors import DamagedFile, UserError

METADATA = ".metadata"
CHECKPOINT = "torch.distributed.checkpoint"
TENSOR_PROPERTIES = "torch.distributed._shard.sharded_tensor.metadata"
READERS = 8
"""Files whose chunks are looked up at once: on a network file system that is a wait, not work."""
ALLOWED: dict[str, Maker | None] = {
    **torch_names.COMMON,
    **dict.fromkeys(
        f"{CHECKPOINT}.metadata.{name}"
        for name in (
            *("Metadata", "MetadataIndex", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata"),
            *("TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING"),
        )
    ),
    **dict.fromkeys(f"{TENSOR_PROPERTIES}.{name}" for name in ("TensorProperties", "MEM_FORMAT_ENCODING")),
    f"{CHECKPOINT}.filesystem._StorageInfo": None,
}


class Chunk(NamedTuple):
    """A rectangular part of a tensor, and the bytes of a file that hold its archive."""

    starts: tuple[int, ...]
    shape: tuple[int, ...]
    file: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Described:
    """A tensor as `.metadata` has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says that it holds.

    `others` are the names of what is no tensor; `unreadable` names tensors of dtypes that safetensors does not have;
    `paths` are the keys that lead to a name in the nested state that was saved (`("model", "lm_head.weight")`);
    `save_id` is new with every save (torch 2.3 and later).
    """

    directory: Path
    tensors: Mapping[str, Described]
    others: tuple[str, ...]
    unreadable: Mapping[str, str]
    paths: Mapping[str, tuple[str | int, ...]]
    save_id: str | None

    @property
    def files(self) -> set[Path]:
        """Those that hold tensors, and `.metadata`."""
        return {self.directory / METADATA} | {chunk.file for each in self.tensors.values() for chunk in each.chunks}


def read(directory: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint as places in its files; with `names`, only those.

    Raises:
        DamagedFile: a file is missing, torn, or does not hold what `.metadata` says.
        RefusedPickle: `.metadata` holds what no checkpoint needs.
        UserError: chunks are transformed, compressed, or of a dtype that safetensors does not have.
    """
    return locate(read_metadata(directory), names)


def read_metadata(directory: Path) -> Metadata:
    """What the checkpoint's `.metadata` says, and nothing of its other files.

    Raises: as `read`.
    """
    path = directory / METADATA
    fd = torch_file.open_file(path)
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size > restricted_pickle.LARGEST:
            raise UserError(f"{path}: {size} bytes, at most {restricted_pickle.LARGEST} are read")
        data = file.read()
    if not data:
        raise DamagedFile(f"{path}: it is empty", "the checkpoint is incomplete")
    content = restricted_pickle.load(data, path, ALLOWED)
    if not isinstance(content, Object) or content.kind != f"{CHECKPOINT}.metadata.Metadata":
        raise DamagedFile(f"{path}: not the metadata of a torch.distributed checkpoint")
    return _Reader(directory, path).interpret(content)


class _Reader:
    """Turns the objects of `.metadata` into ours, and checks each field on the way."""

    def __init__(self, directory: Path, path: Path) -> None:
        self.directory = directory
        self.real = directory.resolve()
        self.path = path
        self.files: dict[str, Path] = {}

    def damaged(self, what: str) -> DamagedFile:
        return DamagedFile(f"{self.path}: {what}", "the checkpoint is damaged, or of a version that is not known")

    def interpret(self, content: Object) -> Metadata:
        fields = content.fields
        places = self.read_places(fields.get("storage_data"))
        tensors, others, unreadable = {}, [], {}
        for name, item in self.items(fields.get("state_dict_metadata"), "state_dict_metadata"):
            if not isinstance(name, str) or not isinstance(item, Object):
                raise self.damaged(f"an entry named {name!r} that is none")
            if item.kind.endswith(".BytesStorageMetadata"):
                others.append(name)
            elif dtype := self.read_dtype(name, item):
                tensors[name] = self.read_tensor(name, dtype, item, places)
            else:
                unreadable[name] = item.fields["properties"].state[0].path
        meta = fields.get("storage_meta")
        save_id = meta.fields.get("save_id") if isinstance(meta, Object) else None
        paths = self.read_paths(fields.get("planner_data"))
        return Metadata(
            self.directory, tensors, tuple(others), unreadable, paths, save_id if isinstance(save_id, str) else None
        )

    def items(self, value: Any, what: str) -> Iterable[tuple[Any, Any]]:
        if not isinstance(value, dict):
            raise self.damaged(f"{what} is a {type(value).__name__}, expected a mapping")
        return value.items()

    def read_places(self, storage_data: Any) -> dict[tuple[str, tuple[int, ...] | None], dict[str, Any]]:
        """Where each chunk lies, by (name, first element)."""
        places = {}
        for index, info in self.items(storage_data, "storage_data"):
            if not isinstance(index, Object) or not isinstance(info, Object):
                raise self.damaged("storage_data is not that of a checkpoint on a file system")
            places[index.fields.get("fqn", ""), index.fields.get("offset")] = info.fields
        return places

    def read_paths(self, planner_data: Any) -> dict[str, tuple[str | int, ...]]:
        if not isinstance(planner_data, dict):
            return {}
        pairs = ((name, path) for name, path in planner_data.items() if isinstance(path, tuple))
        return {name: path for name, path in pairs if all(isinstance(key, str | int) for key in path)}

    def read_dtype(self, name: str, item: Object) -> str:
        properties = item.fields.get("properties")
        state = properties.state if isinstance(properties, Object) else None
        if isinstance(state, dict):  # before torch 2.1
            state = (state.get("dtype"),)
        if not state or not isinstance(state[0], Global):
            raise self.damaged(f"{name} has no dtype")
        return torch_names.dtype_of(state[0])

    def read_tensor(self, name: str, dtype: str, item: Object, places: Mapping[Any, dict[str, Any]]) -> Described:
        shape, chunks = item.fields.get("size"), item.fields.get("chunks")
        if not isinstance(shape, tuple) or not isinstance(chunks, list):
            raise self.damaged(f"{name} has no size or no chunks")
        return Described(name, dtype, shape, tuple(self.read_chunk(name, shape, chunk, places) for chunk in chunks))

    def read_chunk(self, name: str, shape: tuple[int, ...], chunk: Any, places: Mapping[Any, dict[str, Any]]) -> Chunk:
        fields = chunk.fields if isinstance(chunk, Object) else {}
        starts, sizes = fields.get("offsets"), fields.get("sizes")
        if not isinstance(starts, tuple) or not isinstance(sizes, tuple) or not len(starts) == len(sizes) == len(shape):
            raise self.damaged(f"{name} of shape {list(shape)} has a chunk at {starts!r} of {sizes!r}")
        place = places.get((name, starts))
        if place is None:
            raise self.damaged(f"it does not say where the chunk of {name} at {list(starts)} lies")
        if place.get("transform_descriptors"):
            raise UserError(
                f"{self.path}: {name} is stored transformed ({place['transform_descriptors']!r}), which cannot be read",
                "save the checkpoint without storage extensions",
            )
        offset, length = place.get("offset"), place.get("length")
        if not torch_names.is_shape((offset, length)):
            raise self.damaged(f"the chunk of {name} at {list(starts)} lies at {offset!r}, {length!r} bytes")
        assert isinstance(offset, int) and isinstance(length, int)
        return Chunk(starts, sizes, self.find_file(place.get("relative_path")), offset, length)

    def find_file(self, relative: Any) -> Path:
        """The path of a file of the checkpoint, which must lie in its directory."""
        if not isinstance(relative, str):
            raise self.damaged(f"it names {relative!r} as a file")
        if relative not in self.files:
            pure = PurePosixPath(relative)
            if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in relative:
                raise self.damaged(f"it names {relative!r}, which is outside of the checkpoint")
            path = self.directory / pure
            if not path.resolve().is_relative_to(self.real):
                raise self.damaged(f"it names {relative!r}, a link to outside of the checkpoint")
            self.files[relative] = path
        return self.files[relative]


def locate(metadata: Metadata, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Find the raw bytes of all chunks, or of those of the tensors `names`, in the files.

    Raises: as `read`.
    """
    for name in metadata.unreadable if names is None else sorted(set(names) & metadata.unreadable.keys()):
        raise UserError(f"{metadata.directory}: {name} is of {metadata.unreadable[name]}, which cannot be written")
    wanted = metadata.tensors if names is None else {name: metadata.tensors[name] for name in names}
    chunks = [(chunk, tensor) for tensor in wanted.values() for chunk in tensor.chunks]
    chunks.sort(key=lambda pair: (pair[0].file, pair[0].offset))
    files = [(file, list(of_file)) for file, of_file in groupby(chunks, key=lambda pair: pair[0].file)]
    with ThreadPoolExecutor(min(READERS, len(files)) or 1) as pool:
        found = [pair for pairs in pool.map(lambda each: _locate_in(*each), files) for pair in pairs]
    pieces: dict[str, list[Piece]] = {name: [] for name in wanted}
    for name, piece in sorted(found, key=lambda pair: pair[1].starts):
        pieces[name].append(piece)
    return {name: Tensor(name, each.dtype, each.shape, tuple(pieces[name])) for name, each in wanted.items()}


def _locate_in(file: Path, chunks: Iterable[tuple[Chunk, Described]]) -> list[tuple[str, Piece]]:
    fd = torch_file.open_file(file)
    try:
        return [(tensor.name, _locate_chunk(fd, chunk, tensor)) for chunk, tensor in chunks]
    finally:
        os.close(fd)


def _locate_chunk(fd: int, chunk: Chunk, tensor: Described) -> Piece:
    stored = torch_file.read_archive(Window(fd, chunk.file, chunk.offset, chunk.length))
    found = f"{stored.dtype} {list(stored.shape)}" if isinstance(stored, Stored) else "no tensor"
    if not isinstance(stored, Stored) or (stored.dtype, stored.shape) != (tensor.dtype, chunk.shape):
        raise DamagedFile(
            f"{chunk.file}: at byte {chunk.offset} is {found}, .metadata says {tensor.dtype} {list(chunk.shape)} of "
            f"{tensor.name}",
            "the checkpoint is damaged, or is being written again",
        )
    return stored.piece(chunk.starts)
