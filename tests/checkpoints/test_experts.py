"""Stacked experts taken apart without moving a byte, however they are sharded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.checkpoints import gather, tiling
from holdfast.checkpoints.experts import take_rows, unstack
from holdfast.checkpoints.tensors import Piece, Tensor

EXPERTS, ROWS, COLUMNS = 4, 6, 5


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experts") / "pieces"


def write(file: Path, axis: int, cut: int, *, transposed: bool) -> tuple[Tensor, list[int]]:
    """A stacked tensor of 32-bit numbers in two pieces, cut along an axis; its elements in order."""
    elements = list(range(EXPERTS * ROWS * COLUMNS))
    shape = (EXPERTS, ROWS, COLUMNS)
    data, pieces = bytearray(), []
    for first, last in ((0, cut), (cut, shape[axis])):
        sizes = tuple(last - first if at == axis else size for at, size in enumerate(shape))
        starts = tuple(first if at == axis else 0 for at in range(3))
        order = (0, 2, 1) if transposed else (0, 1, 2)
        strides = [0, 0, 0]
        step = 1
        for at in reversed(order):
            strides[at], step = step, step * sizes[at]
        content = [0] * step
        for e in range(sizes[0]):
            for r in range(sizes[1]):
                for c in range(sizes[2]):
                    whole = ((e + starts[0]) * ROWS + r + starts[1]) * COLUMNS + c + starts[2]
                    content[e * strides[0] + r * strides[1] + c * strides[2]] = elements[whole]
        pieces.append(Piece(file, len(data), starts, sizes, tuple(strides) if transposed else ()))
        data += b"".join(value.to_bytes(4, "little") for value in content)
    file.write_bytes(data)
    return Tensor("x", "I32", shape, tuple(pieces)), elements


@given(
    st.integers(0, 2).flatmap(lambda axis: st.tuples(st.just(axis), st.integers(0, (EXPERTS, ROWS, COLUMNS)[axis]))),
    st.integers(0, EXPERTS - 1),
    st.integers(0, ROWS - 1),
    st.integers(1, ROWS),
    st.booleans(),
)
def test_some_rows_of_one_expert_are_found_in_any_sharding(
    file: Path, cut: tuple[int, int], expert: int, start: int, count: int, transposed: bool
) -> None:
    stop = min(ROWS, start + count)
    tensor, elements = write(file, *cut, transposed=transposed)
    part = tiling.check(take_rows(tensor, "part", expert, start, stop))
    found = b"".join(gather.blocks(part))
    first = (expert * ROWS + start) * COLUMNS
    wanted = elements[first : first + (stop - start) * COLUMNS]
    assert found == b"".join(value.to_bytes(4, "little") for value in wanted)


def test_experts_that_files_hold_stacked_too_stay_as_they_are(file: Path) -> None:
    tensor, _ = write(file, 0, 2, transposed=False)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert unstack({name: tensor}, {name: tensor.shape}).keys() == {name}


def test_a_number_of_experts_that_does_not_fit_is_not_hidden(file: Path) -> None:
    """The stacked name stays, and the check of the whole reports it."""
    tensor, _ = write(file, 0, 2, transposed=False)
    wanted = {f"model.layers.0.mlp.experts.{i}.{part}_proj.weight": (3, 5) for i in range(3) for part in ("gate", "up")}
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert unstack({name: tensor}, wanted).keys() == {name}
