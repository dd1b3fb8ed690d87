"""Tied tensors: compared by their bytes, wherever these lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.checkpoints import tied
from holdfast.checkpoints.tensors import Piece, Tensor
from holdfast.core.errors import UserError

ROWS, COLUMNS = 300, 2000
TIED = {"lm_head.weight": "embed.weight"}


def write(path: Path, name: str, cut: int, *, by_column: bool, changed: int | None = None) -> Tensor:
    """A bfloat16 tensor of 1.2 MB (more than a block) in two pieces; `changed` is a byte that differs."""
    whole = bytearray(i * 7 % 251 for i in range(ROWS * COLUMNS * 2))
    if changed is not None:
        whole[changed] ^= 1
    pieces, data = [], bytearray()
    for first, last in ((0, cut), (cut, COLUMNS if by_column else ROWS)):
        if by_column:
            rows = (whole[(row * COLUMNS + first) * 2 : (row * COLUMNS + last) * 2] for row in range(ROWS))
            pieces.append(Piece(path, len(data), (0, first), (ROWS, last - first)))
            data += b"".join(rows)
        else:
            pieces.append(Piece(path, len(data), (first, 0), (last - first, COLUMNS)))
            data += whole[first * COLUMNS * 2 : last * COLUMNS * 2]
    path.write_bytes(data)
    return Tensor(name, "BF16", (ROWS, COLUMNS), tuple(pieces))


def test_equal_tensors_in_other_shardings_are_one(tmp_path: Path) -> None:
    embedding = write(tmp_path / "a", "embed.weight", 100, by_column=False)
    head = write(tmp_path / "b", "lm_head.weight", 33, by_column=True)
    kept, dropped = tied.drop({"embed.weight": embedding, "lm_head.weight": head}, TIED)
    assert kept.keys() == {"embed.weight"}
    assert dropped.keys() == {"lm_head.weight"}


@pytest.mark.parametrize("changed", [0, ROWS * COLUMNS, ROWS * COLUMNS * 2 - 1])
def test_one_bit_is_enough_to_keep_them_apart(changed: int, tmp_path: Path) -> None:
    embedding = write(tmp_path / "a", "embed.weight", 100, by_column=False)
    head = write(tmp_path / "b", "lm_head.weight", 33, by_column=True, changed=changed)
    with pytest.raises(UserError, match=r"ties lm_head\.weight to embed\.weight"):
        tied.drop({"embed.weight": embedding, "lm_head.weight": head}, TIED)


def test_another_dtype_is_not_equal(tmp_path: Path) -> None:
    embedding = write(tmp_path / "a", "embed.weight", 100, by_column=False)
    assert not tied.equal(embedding, replace(embedding, dtype="F16"))


def test_an_embedding_that_was_saved_as_the_output_layer_gets_its_name(tmp_path: Path) -> None:
    head = write(tmp_path / "b", "lm_head.weight", 33, by_column=True)
    assert tied.name_by_twin({"lm_head.weight": head}, TIED) == {"embed.weight": replace(head, name="embed.weight")}


def test_a_missing_output_layer_is_right_where_it_is_tied(tmp_path: Path) -> None:
    embedding = write(tmp_path / "a", "embed.weight", 100, by_column=False)
    assert tied.drop({"embed.weight": embedding}, TIED) == ({"embed.weight": embedding}, {})
