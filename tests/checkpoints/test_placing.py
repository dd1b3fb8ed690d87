"""A checkpoint at a path of one's own is whole or not there, and never instead of somebody's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.checkpoints.placing import is_placed, place
from holdfast.core import artifact
from holdfast.core.errors import UserError


def convert(home: Path, weights: str = "w") -> Path:
    home.mkdir(parents=True)
    (home / "model.safetensors").write_text(weights)
    (home / "config.json").write_text("{}")
    artifact.publish_in_place(home, artifact.seal(home, {"key": "k" * 64}))
    return home


def test_weights_take_no_space_twice_and_small_files_can_be_edited(tmp_path: Path) -> None:
    home, out = convert(tmp_path / "home"), tmp_path / "deep" / "out"
    place(home, out)
    assert is_placed(home, out)
    assert os.path.samefile(home / "model.safetensors", out / "model.safetensors")
    (out / "config.json").write_text('{"edited": true}')
    assert (home / "config.json").read_text() == "{}"
    assert not is_placed(home, out)


def test_newer_conversion_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    place(convert(tmp_path / "old", "old"), out)
    new = convert(tmp_path / "new", "new")
    assert not is_placed(new, out)
    place(new, out)
    assert (out / "model.safetensors").read_text() == "new"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    home, out = convert(tmp_path / "home"), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="did not make"):
        place(home, out)
    assert (out / "thesis.tex").read_text() == "mine"
