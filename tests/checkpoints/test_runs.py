"""Whichever part of a tensor is asked for, exactly the runs with elements in it are read."""

from __future__ import annotations

from math import prod
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from holdfast.checkpoints.runs import prepare
from holdfast.checkpoints.tensors import Piece, Tensor


@st.composite
def columns(draw: st.DrawFn) -> Tensor:
    """A tensor of two to four axes, cut in two along one of them."""
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] += 1
    at = draw(st.integers(1, shape[axis] - 1))
    pieces = []
    for start, size in ((0, at), (at, shape[axis] - at)):
        starts = tuple(start if each == axis else 0 for each in range(len(shape)))
        sizes = tuple(size if each == axis else extent for each, extent in enumerate(shape))
        pieces.append(Piece(Path("shard"), 0, starts, sizes))
    return Tensor("t", "U8", tuple(shape), tuple(pieces))


@given(columns(), st.data())
def test_a_part_touches_the_runs_that_have_elements_in_it_and_no_other(tensor: Tensor, data: st.DataObject) -> None:
    prepared, whole = prepare(tensor), prod(tensor.shape)
    first = data.draw(st.integers(0, whole - 1))
    end = data.draw(st.integers(first + 1, whole))
    touched = set()
    for runs in prepared.runs:
        low, high = runs.touching(first, end)
        for number in range(runs.count):
            elements = range(runs.start(number), runs.start(number) + runs.length)
            assert (low <= number < high) == bool(range(max(first, elements.start), min(end, elements.stop)))
            touched |= set(elements)
    assert touched == set(range(whole))


@given(columns())
def test_rows_of_several_axes_are_one_evenly_spread_set(tensor: Tensor) -> None:
    for runs in prepare(tensor).runs:
        assert len(runs.sizes) <= 1
