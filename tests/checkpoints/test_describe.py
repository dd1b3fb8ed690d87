"""What `--inspect` shows."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from tests.checkpoints.nemo_rl import save_dcp

from holdfast.checkpoints.contents import Entry
from holdfast.checkpoints.describe import describe, name_sharding


def entry(shape: tuple[int, ...], *cuts: int) -> Entry:
    """A tensor in a grid of equal parts."""
    sizes = tuple(size // cut for size, cut in zip(shape, cuts, strict=True))
    grid = product(*(range(0, size, step) for size, step in zip(shape, sizes, strict=True)))
    return Entry("BF16", shape, tuple((starts, sizes) for starts in grid))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (entry((8, 6), 1, 1), "whole"),
        (entry((8, 6), 4, 1), "Shard(0) x4"),
        (entry((8, 6), 1, 3), "Shard(1) x3"),
        (entry((8, 6), 2, 3), "2x3 mesh of axes 0 and 1"),
        (Entry("F32", (), (((), ()),)), "whole"),
        (Entry("F32", (0, 3), (((0, 0), (0, 3)),)), "whole"),
        (Entry("F32", (4,), (((0,), (4,)), ((0,), (4,)), ((4,), (0,)))), "whole"),
        (Entry("F32", (3, 2), (((0, 0), (3, 1)), ((0, 1), (1, 1)), ((1, 1), (2, 1)))), "3 pieces"),
    ],
)
def test_sharding_is_named_in_the_words_of_dtensor(found: Entry, words: str) -> None:
    assert name_sharding(found) == words


@pytest.mark.train
def test_a_checkpoint_is_described_without_a_config(tmp_path: Path) -> None:
    import torch

    state = {"w": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros(7), "optim": {"step": torch.tensor(1)}}
    found = describe(save_dcp({**state, "epoch": 3}, tmp_path / "dcp"))
    assert [(row.name, row.dtype, row.shape, row.nbytes, row.remark) for row in found.rows] == [
        ("b", "F32", (7,), 28, ""),
        ("optim.step", "I64", (), 8, "optimizer or trainer state"),
        ("w", "BF16", (3, 5), 30, ""),
    ]
    assert found.others == {"epoch": "not a tensor"}
    assert found.totals == {"BF16": (1, 15, 30), "F32": (1, 7, 28), "I64": (1, 1, 8)}
    assert found.recognised.sentence == "a distributed checkpoint (DCP)"
