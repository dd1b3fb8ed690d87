"""Only pieces that tile their tensor exactly are accepted, and thousands of them are checked at once."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.checkpoints import tiling
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import DamagedFile

Box = tuple[tuple[int, ...], tuple[int, ...]]


def tensor_of(shape: Sequence[int], boxes: Sequence[Box]) -> Tensor:
    pieces = tuple(Piece(Path(f"file_{number}"), 0, *box) for number, box in enumerate(boxes))
    return Tensor("weight", "F32", tuple(shape), pieces)


def grid(shape: Sequence[int], parts: Sequence[int]) -> list[Box]:
    """The boxes of a mesh: each axis in so many parts, the last ones shorter or empty."""
    cuts = []
    for size, count in zip(shape, parts, strict=True):
        step = -(-size // count)
        starts = [min(size, step * number) for number in range(count)]
        cuts.append([(start, min(step, size - start)) for start in starts])
    return [(tuple(s for s, _ in box), tuple(n for _, n in box)) for box in itertools.product(*cuts)]


@given(st.lists(st.integers(0, 9), max_size=4), st.data())
@settings(deadline=None)
def test_every_mesh_tiles(shape: list[int], data: st.DataObject) -> None:
    parts = [data.draw(st.integers(1, 5)) for _ in shape]
    boxes = grid(shape, parts)
    data.draw(st.randoms(use_true_random=False)).shuffle(boxes)
    assert sum(prod(piece.shape) for piece in tiling.check(tensor_of(shape, boxes)).pieces) == prod(shape)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=300)
def test_it_agrees_with_counting_each_element(shape: list[int], data: st.DataObject) -> None:
    boxes = []
    for _ in range(data.draw(st.integers(1, 4))):
        starts = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
        sizes = tuple(data.draw(st.integers(1, size - start)) for size, start in zip(shape, starts, strict=True))
        boxes.append((starts, sizes))
    boxes += data.draw(st.sampled_from([[], grid(shape, [1] * len(shape)), grid(shape, [2] * len(shape))]))
    counted: dict[tuple[int, ...], int] = {}
    for starts, sizes in set(boxes):
        for index in itertools.product(*(range(s, s + n) for s, n in zip(starts, sizes, strict=True))):
            counted[index] = counted.get(index, 0) + 1
    tiles = len(counted) == prod(shape) and set(counted.values()) == {1}
    try:
        tiling.check(tensor_of(shape, boxes))
    except DamagedFile as error:
        assert not tiles, str(error)
    else:
        assert tiles


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([((0, 0), (2, 4))], "hold 8 of 16 elements"),
        ([((0, 0), (3, 4)), ((2, 0), (2, 4))], "overlap"),
        ([((0, 0), (2, 4)), ((0, 1), (2, 3)), ((3, 0), (1, 2))], "overlap"),
        ([((0, 0), (5, 4))], "reaches outside"),
        ([((0, -1), (4, 4))], "reaches outside"),
        ([((0,), (4,))], "another number of axes"),
        ([], "0 pieces hold 0 of 16"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(boxes: list[Box], words: str) -> None:
    with pytest.raises(DamagedFile, match=words) as error:
        tiling.check(tensor_of((4, 4), boxes))
    assert "weight of shape [4, 4]" in str(error.value)


def test_replicas_count_once_and_the_first_is_kept() -> None:
    checked = tiling.check(tensor_of((4, 4), [((0, 0), (2, 4)), ((2, 0), (2, 4)), ((0, 0), (2, 4))]))
    assert [str(piece.file) for piece in checked.pieces] == ["file_0", "file_1"]


def test_pieces_that_no_straight_cut_parts_are_accepted() -> None:
    pinwheel = [((0, 0), (1, 2)), ((0, 2), (2, 1)), ((2, 1), (1, 2)), ((1, 0), (2, 1)), ((1, 1), (1, 1))]
    assert len(tiling.check(tensor_of((3, 3), pinwheel)).pieces) == 5


def test_a_mesh_of_sixteen_thousand_ranks_takes_a_moment() -> None:
    boxes = grid((4096, 4096), (128, 128))
    random.Random(0).shuffle(boxes)
    started = time.process_time()
    tiling.check(tensor_of((4096, 4096), boxes))
    assert time.process_time() - started < 5
