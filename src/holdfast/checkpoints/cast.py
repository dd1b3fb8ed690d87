"""Casts between floating point dtypes, with the roundings of torch's `tensor.to(dtype)`, bit for bit.

To nearest, ties to even; too large becomes infinite; subnormals are kept. From 64 bits it goes through 32, as torch
does. What becomes of the bits of a NaN depends in torch on the processor and on its place in the tensor; here it is
what torch gives on processors with AVX, whatever runs this, so that equal checkpoints become equal files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Cast = Callable[["Buffer"], bytes | memoryview]
Buffer = bytes | bytearray | memoryview
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<u2", "BF16": "<u2"}
"""How the bytes of a dtype are taken; 16-bit ones as patterns."""


def choose(source: str, target: str) -> Cast | None:
    """A function from the bytes of some elements to their bytes as `target`; None where nothing changes.

    It needs up to four times the bytes that it is given, and leaves other threads the interpreter while it runs.

    Raises:
        KeyError: one of them is no floating point dtype.
    """
    if source == target:
        return None
    if target not in STORED:
        raise KeyError(target)
    return partial(_cast, source=source, target=target, kind=STORED[source])


def _cast(data: Buffer, source: str, target: str, kind: str) -> memoryview:
    import numpy as np

    values = np.frombuffer(data, dtype=kind)
    with np.errstate(all="ignore"):
        wide = _widen(values, source)
        if target == "F32":
            made: NDArray[Any] = wide if wide.dtype == np.float32 else wide.astype(np.float32)
        elif target == "F64":
            made = wide.astype(np.float64)
        elif target == "F16":
            made = _to_half(wide.astype(np.float32, copy=False))
        else:
            made = _to_bfloat(wide.astype(np.float32, copy=False), 0x7FC0 if source == "F16" else 0xFFFF)
    return made.data.cast("B")


def _widen(values: NDArray[Any], source: str) -> NDArray[Any]:
    """16-bit patterns as 32-bit floats; others as they are."""
    import numpy as np

    if source == "BF16":
        wide = values.astype(np.uint32)
        np.left_shift(wide, 16, out=wide)
        return wide.view(np.float32)
    if source == "F16":
        wide = values.view(np.float16).astype(np.float32)
        odd = np.isnan(wide)
        if odd.any():
            wide.view(np.uint32)[odd] |= 0x400000  # numpy leaves a signalling NaN as it is, a processor does not
        return wide
    return values


def _to_bfloat(values: NDArray[np.float32], nan: int) -> NDArray[np.uint16]:
    """The upper half of the pattern, rounded: add half of the last bit kept, and one more where that bit is odd."""
    import numpy as np

    pattern = values.view(np.uint32)
    rounded = np.right_shift(pattern, 16)
    np.bitwise_and(rounded, 1, out=rounded)
    np.add(rounded, 0x7FFF, out=rounded)
    np.add(rounded, pattern, out=rounded)
    np.right_shift(rounded, 16, out=rounded)
    made = rounded.astype(np.uint16)
    odd = np.isnan(values)
    if odd.any():
        made[odd] = nan
    return made


def _to_half(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """numpy rounds as torch does; of a NaN the sign and the upper bits are kept, and it is made quiet."""
    import numpy as np

    made = values.astype(np.float16).view(np.uint16)
    odd = np.isnan(values)
    if odd.any():
        pattern = values.view(np.uint32)[odd]
        made[odd] = (pattern >> 16 & 0x8000 | 0x7E00 | pattern >> 13 & 0x3FF).astype(np.uint16)
    return made
