"""A LoRA adapter merged into its base, block by block: W + scale * (B @ A).

The product is summed over the rank in order, in float32, with one rounding for each multiplication and addition. So the
bytes do not depend on the machine, as those of a BLAS would, whose kernels differ from one processor to the next; at
the ranks of adapters it is as fast. The sum is rounded once, to the base's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.checkpoints import cast, gather
from holdfast.checkpoints.adapter import FRONT, Adapter, Pair
from holdfast.checkpoints.tensors import Computed, Tensor
from holdfast.core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[Any]

NEAR = 512 << 10
"""Bytes of float32 that are worked on at a time: what a processor core keeps near itself."""
MERGED = ("F32", "BF16", "F16")


def merge(base: Mapping[str, Tensor], adapter: Adapter, where: Path) -> dict[str, Tensor | Computed]:
    """The base's tensors with the adapter in them.

    Raises:
        UserError: the adapter changes a tensor that the base does not have, or that has another shape.
    """
    result: dict[str, Tensor | Computed] = dict(base)
    for name, tensor in adapter.replaced.items():
        if name in base and base[name].shape != tensor.shape:
            raise _misfit(where, name, tensor.shape, base[name].shape)
        result[name] = replace(tensor, name=name)
    for name, pair in adapter.pairs.items():
        weight = result.get(name)
        if not isinstance(weight, Tensor):
            raise UserError(
                f"{where} changes {name}, which the base model does not have",
                "name the model that the adapter was trained on; an output layer that is tied to the embedding has to "
                "be untied in the base first",
            )
        shape = (pair.b.shape[0], pair.a.shape[1])
        if weight.shape != (shape[::-1] if pair.transposed else shape):
            raise _misfit(where, name, shape, weight.shape)
        if weight.dtype not in MERGED:
            raise UserError(f"{name} of the base model is {weight.dtype}, which cannot be added to", "use another base")
        result[name] = Computed(name, weight.dtype, weight.shape, partial(merge_blocks, weight, pair))
    return result


def merge_blocks(weight: Tensor, pair: Pair) -> Iterator[bytes]:
    """The merged weight's bytes, about a MiB at a time."""
    left, right = _factors(pair)
    columns, at = weight.shape[1], 0
    back = cast.choose("F32", weight.dtype)
    for block in gather.blocks(weight):
        base = _to_float32(block, weight.dtype)
        first, last = at // columns, -(-(at + base.size) // columns)
        change = multiply(left[first:last], right, pair.scale).reshape(-1)
        merged = base + change[at - first * columns :][: base.size]
        at += base.size
        yield bytes(back(merged.data.cast("B"))) if back else merged.tobytes()


def multiply(left: Matrix, right: Matrix, scale: float) -> Matrix:
    """`scale * (left @ right)` of [rows, rank] and [rank, columns], summed over the rank in order."""
    import numpy

    result = numpy.empty((left.shape[0], right.shape[1]), numpy.float32)
    step = max(1, NEAR // (4 * right.shape[1]))
    term = numpy.empty((step, right.shape[1]), numpy.float32)
    for first in range(0, left.shape[0], step):
        rows, total = left[first : first + step], result[first : first + step]
        numpy.multiply(rows[:, :1], right[0], out=total)
        for index in range(1, left.shape[1]):
            numpy.multiply(rows[:, index : index + 1], right[index], out=term[: len(rows)])
            numpy.add(total, term[: len(rows)], out=total)
    numpy.multiply(result, numpy.float32(scale), out=result)
    return result


def _factors(pair: Pair) -> tuple[Matrix, Matrix]:
    """[rows of the weight, rank] and [rank, columns of the weight]."""
    import numpy

    a, b = _read(pair.a), _read(pair.b)
    if pair.transposed:
        a, b = b.T, a.T
    return numpy.ascontiguousarray(b), numpy.ascontiguousarray(a)


def _read(tensor: Tensor) -> Matrix:
    return _to_float32(b"".join(gather.blocks(tensor)), tensor.dtype).reshape(tensor.shape)


def _to_float32(content: bytes, dtype: str) -> Matrix:
    import numpy

    widen = cast.choose(dtype, "F32")
    return numpy.frombuffer(widen(content) if widen else content, numpy.float32)


def export(adapter: Adapter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and config of a clean PEFT directory: the names that PEFT would save, without an adapter's own."""
    tensors: dict[str, Tensor] = {}
    for name, pair in adapter.pairs.items():
        module = name.removesuffix(".weight")
        embedding = ".lora_embedding_" in pair.a.name
        for side, tensor in (("A", pair.a), ("B", pair.b)):
            ending = f"lora_embedding_{side}" if embedding else f"lora_{side}.weight"
            target = f"{FRONT}{module}.{ending}"
            tensors[target] = replace(tensor, name=target)
    for name, tensor in adapter.replaced.items():
        tensors[FRONT + name] = replace(tensor, name=FRONT + name)
    return dict(sorted(tensors.items())), {**adapter.config, "inference_mode": True}


def _misfit(where: Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> UserError:
    return UserError(
        f"{where} has {list(found)} for {name}, which is {list(wanted)} in the base model",
        "name the model that the adapter was trained on",
    )
