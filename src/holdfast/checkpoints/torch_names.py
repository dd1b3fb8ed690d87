"""What PyTorch calls things in the files that it writes."""

from __future__ import annotations

from typing import Any

from holdfast.checkpoints.restricted_pickle import Global, Maker, OrderedFields

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""Names of dtypes in safetensors, by those in torch."""
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "UntypedStorage": "U8",
}  # fmt: skip
OTHER_DTYPES = (
    "complex32", "complex64", "complex128", "quint8", "qint8", "qint32", "quint4x2", "quint2x4", "bits8", "bits16",
    "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "int4", "uint4",
)  # fmt: skip
"""Known, and said to be what safetensors here cannot hold, instead of refused as foreign."""
PLACEMENTS = ("Shard", "_StridedShard", "Replicate", "Partial", "_Partial", "_MaskPartial", "MaskPartial")


def size_of(args: tuple[Any, ...]) -> tuple[int, ...]:
    """`torch.Size((2, 3))`: a shape.

    Raises:
        ValueError: it is none.
    """
    size = tuple(args[0])
    if not is_shape(size):
        raise ValueError("no shape")
    return size


def is_shape(value: object) -> bool:
    """Whether this is a tuple of at most 64 sizes that a file can have."""
    return (
        isinstance(value, tuple) and len(value) <= 64 and all(type(size) is int and 0 <= size < 2**63 for size in value)
    )


def dtype_of(value: object) -> str:
    """The safetensors name of a dtype; empty for one that it does not have."""
    if not isinstance(value, Global) or value.module != "torch":
        return ""
    return DTYPES.get(value.name, "")


def _encode(args: tuple[Any, ...]) -> bytes:
    """Bytes as protocol 2 writes them: a text and `latin1`."""
    text, encoding = args
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("no bytes")
    return text.encode("latin1")


COMMON: dict[str, Maker | None] = {
    "torch.Size": size_of,
    "torch.device": lambda args: str(args[0]),
    "torch.serialization._get_layout": lambda args: str(args[0]),
    "collections.OrderedDict": lambda args: OrderedFields(*args),
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda args: b"",  # how protocol 2 writes no bytes at all
    **dict.fromkeys((f"torch.{name}" for name in (*DTYPES, *OTHER_DTYPES)), None),
    **dict.fromkeys(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    **dict.fromkeys(f"pathlib._local.{name}" for name in ("PosixPath", "PurePosixPath")),
}
"""Names in any file of PyTorch's. A path is not made: nobody needs it."""
