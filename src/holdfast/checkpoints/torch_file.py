"""Reads what `torch.save` wrote, without torch: the nested value, its tensors as places in the file.

A file is a ZIP archive whose `data.pkl` describes the value (protocol 2); the bytes of each storage are a stored member
`data/<key>`. Rank files of FSDP (verl's, for example) hold DTensors, which say what part of which tensor they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.checkpoints import restricted_pickle, torch_names
from holdfast.checkpoints.restricted_pickle import Global, Maker, Object
from holdfast.checkpoints.sharding import Placement, Sharded, Stored
from holdfast.checkpoints.tensors import ITEM_SIZES, Checked
from holdfast.checkpoints.zip_archive import Member, Window, list_members
from holdfast.core.errors import DamagedFile, UserError

PACKAGES = ("torch.distributed.tensor", "torch.distributed._tensor")
"""Where DTensor lives, since torch 2.5 and before."""


@dataclass(frozen=True)
class _Storage:
    """A flat run of elements: `dtype` is empty where the tensor says it (an untyped storage)."""

    dtype: str
    member: Member


def read(path: Path) -> Any:
    """The value in a file of `torch.save`: dicts, lists, numbers, texts, and for tensors `Stored` or `Sharded`.

    Raises:
        DamagedFile: the file is torn.
        UserError: it is compressed, big-endian, or of the format before torch 1.6.
        RefusedPickle: it holds what a state of tensors does not need.
    """
    fd = open_file(path)
    try:
        return read_archive(Window(fd, path, 0, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def open_file(path: Path) -> int:
    """A descriptor for reading.

    Raises:
        DamagedFile: there is no such file, or it cannot be read.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}", f"look at it: ls -l {path.parent}") from None


def read_archive(window: Window) -> Any:
    """As `read`, for an archive that is a part of a file."""
    members = list_members(window)
    order = members.get("byteorder")
    if order and (found := window.read(order.offset - window.start, order.size)) != b"little":
        raise UserError(f"{window.path}: byte order is {found.decode(errors='replace')!r}, only 'little' is read")
    described = members.get("data.pkl")
    if described is None:
        raise DamagedFile(f"{window.path}: an archive without data.pkl: {', '.join(sorted(members)[:3])}")
    data = window.read(described.offset - window.start, described.size)
    reader = _Reader(window.path, members)
    return restricted_pickle.load(data, window.path, reader.allowed, reader.resolve)


class _Reader:
    """Turns what one `data.pkl` names into places in its file."""

    def __init__(self, path: Path, members: Mapping[str, Member]) -> None:
        self.path = path
        self.members = members
        made: dict[str, Maker | None] = {
            "torch._utils._rebuild_tensor_v2": partial(self.make_tensor, typed=True),
            "torch._utils._rebuild_tensor_v3": partial(self.make_tensor, typed=False),
            "torch._tensor._rebuild_from_type_v2": self.make_subclass,
        }
        self.allowed = ALLOWED | made

    def resolve(self, identity: Any) -> _Storage:
        """A persistent id is `("storage", type, key, device, number of elements)`."""
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise self.damaged("a reference to something that is no storage")
        _, kind, key, _, count = identity
        dtype = torch_names.STORAGES.get(kind.name, "") if isinstance(kind, Global) else ""
        member = self.members.get(f"data/{key}")
        if not dtype or member is None or member.size != count * ITEM_SIZES[dtype]:
            size = "missing" if member is None else f"{member.size} bytes"
            raise self.damaged(f"storage {key!r} of {count} elements, which is {size}")
        return _Storage("" if kind.name == "UntypedStorage" else dtype, member)

    def make_tensor(self, args: tuple[Any, ...], typed: bool) -> Stored:
        storage, first, shape, strides, *rest = args
        if not isinstance(storage, _Storage):
            raise self.damaged("a tensor without a storage")
        dtype = storage.dtype if typed else torch_names.dtype_of(rest[2])
        if not dtype:
            raise UserError(f"{self.path}: a tensor of a dtype that safetensors does not have")
        size = ITEM_SIZES[dtype]
        if not (torch_names.is_shape((first, *shape)) and torch_names.is_shape(strides) and len(shape) == len(strides)):
            raise self.damaged("a tensor whose shape is none")
        last = first + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        if 0 not in shape and (last + 1) * size > storage.member.size:
            raise self.damaged(f"a tensor of shape {list(shape)} in a storage of {storage.member.size} bytes")
        return Stored(dtype, shape, strides, self.path, storage.member.offset + first * size, self.checked(storage))

    def checked(self, storage: _Storage) -> Checked | None:
        crc = storage.member.crc
        return None if crc is None else Checked(self.path, storage.member.offset, storage.member.size, crc)

    def make_subclass(self, args: tuple[Any, ...]) -> Any:
        """A DTensor: `(function, type, arguments of the function, state)`."""
        _, kind, inner, state = args
        if isinstance(state, tuple) and len(state) == 2:
            state = state[1]  # what it has in slots, behind what it has in a dict
        if isinstance(kind, Global) and kind.name == "DTensor" and isinstance(state, dict):
            local, spec = state.get("_local_tensor"), state.get("_spec")
            if isinstance(local, Stored) and isinstance(spec, Object):
                return _make_sharded(self.path, local, spec.fields)
        if isinstance(kind, Global) and kind.name == "Parameter" and inner and isinstance(inner, tuple):
            return inner[0]
        raise self.damaged("a tensor of a kind that is not known")

    def damaged(self, what: str) -> DamagedFile:
        return DamagedFile(f"{self.path}: it describes {what}")


def _make_sharded(path: Path, local: Stored, spec: Mapping[str, Any]) -> Sharded:
    meta, mesh = spec.get("tensor_meta"), spec.get("mesh")
    placements = spec.get("placements")
    shape = meta.args[0] if isinstance(meta, Object) and meta.args else None
    mesh_shape = _mesh_shape(mesh.fields) if isinstance(mesh, Object) else None
    if not torch_names.is_shape(shape) or mesh_shape is None or not isinstance(placements, tuple):
        raise UserError(f"{path}: a DTensor written by a version of torch that is not known", "save it as DCP")
    assert isinstance(mesh, Object) and isinstance(shape, tuple)
    coordinate = mesh.fields.get("_coordinate_on_dim")
    at = tuple(coordinate) if isinstance(coordinate, list | tuple) else None
    return Sharded(local, tuple(shape), tuple(map(_make_placement, placements)), mesh_shape, at)


def _mesh_shape(mesh: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Ranks along each axis of the mesh: from its layout, or from its table of ranks in torch before 2.9."""
    layout = mesh.get("_layout")
    if isinstance(layout, Object):
        axes = layout.fields.get("axes")
        if isinstance(axes, tuple):
            return tuple(_ranks(axis.fields.get("shape")) for axis in axes if isinstance(axis, Object))
        shape = layout.fields.get("shape", layout.args[0] if layout.args else None)
        return tuple(map(_ranks, shape)) if isinstance(shape, tuple) else (_ranks(shape),)
    table = mesh.get("mesh", mesh.get("_mesh"))
    return table.shape if isinstance(table, Stored) else None


def _ranks(shape: Any) -> int:
    """Of an axis, which may have been flattened out of several."""
    if isinstance(shape, tuple):
        product = 1
        for part in shape:
            product *= _ranks(part)
        return product
    if type(shape) is not int:
        raise ValueError("a mesh without a shape")
    return shape


def _make_placement(placement: Any) -> Placement:
    if not isinstance(placement, Object):
        raise ValueError("no placement")
    fields = placement.fields
    name = placement.kind.rpartition(".")[2].strip("_")
    return Placement(name, fields.get("dim", 0), fields.get("split_factor", 1))


class _Names(NamedTuple):
    package: str
    names: tuple[str, ...]


NAMES = [
    _Names("torch", tuple(torch_names.STORAGES)),
    _Names("torch.storage", ("UntypedStorage",)),
    _Names("torch.nn.parameter", ("Parameter",)),
    _Names("torch._utils", ("_rebuild_wrapper_subclass",)),
    _Names("torch.distributed.device_mesh", ("DeviceMesh",)),
    _Names("torch.distributed._mesh_layout", ("_MeshLayout", "_FlatLayout")),
    *(_Names(package, ("DTensor",)) for package in PACKAGES),
    *(_Names(f"{package}.api", ("DTensor",)) for package in PACKAGES),
    *(_Names(f"{package}._api", ("DTensor",)) for package in PACKAGES),
    *(_Names(f"{package}.placement_types", torch_names.PLACEMENTS) for package in PACKAGES),
    *(
        _Names(f"{package}.{module}", ("DTensorSpec", "TensorMeta", "ShardOrderEntry"))
        for package in PACKAGES
        for module in ("_dtensor_spec", "placement_types")
    ),
]
_first: Callable[[tuple[Any, ...]], Any] = lambda args: args[0]  # noqa: E731
ALLOWED: dict[str, Maker | None] = {
    **torch_names.COMMON,
    **{f"{package}.{name}": None for package, names in NAMES for name in names},
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}
"""What may occur in a state of tensors; a `Parameter` is read as its tensor."""
