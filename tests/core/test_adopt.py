"""What others made is known by its contents, and nothing in it can hang or mislead a plan."""

import os
from pathlib import Path

import pytest

from holdfast.core.adopt import adopt
from holdfast.core.errors import UserError
from holdfast.core.store import Store


def make(directory: Path, weights: str = "w") -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_text(weights)
    return directory


def test_same_contents_elsewhere_are_the_same_input(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    assert adopt(store, make(tmp_path / "a")).key == adopt(store, make(tmp_path / "b")).key


def test_rewritten_checkpoint_at_the_same_path_is_another_input(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    directory = make(tmp_path / "step_170", "old")
    before = adopt(store, directory).key
    (directory / "model.safetensors").write_text("new")
    assert adopt(store, directory).key != before


def test_links_to_files_count_as_their_contents(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    plain = make(tmp_path / "plain")
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in plain.iterdir():
        (linked / file.name).symlink_to(file)
    assert adopt(store, linked).key == adopt(store, plain).key


def test_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    directory = make(tmp_path / "model")
    (directory / "tokenizer.json").symlink_to("blobs/gone")
    with pytest.raises(UserError, match=r"tokenizer\.json is a link to blobs/gone, which is not there"):
        adopt(Store(tmp_path / "root"), directory)


@pytest.mark.timeout(20)
def test_pipe_in_a_directory_does_not_hang_the_plan(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    directory = make(tmp_path / "model")
    before = adopt(store, directory).key
    os.mkfifo(directory / "pipe")
    assert adopt(store, directory).key == before


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such directory"):
        adopt(Store(tmp_path / "root"), tmp_path / "nothing")


def test_contents_behind_a_linked_directory_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    real = make(tmp_path / "real", "old")
    data = tmp_path / "data"
    data.mkdir()
    (data / "sub").symlink_to(real)
    (real / "round").symlink_to(data)
    before = adopt(store, data).key
    (real / "model.safetensors").write_text("new")
    assert adopt(store, data).key != before


def test_file_is_known_by_its_contents_and_not_by_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text("{}")
    other.write_text("{}")
    assert adopt(store, one).key == adopt(store, other).key
    other.write_text("[]")
    assert adopt(store, one).key != adopt(store, other).key
    other.write_text("")
    assert adopt(store, other).key != adopt(store, one).key


def test_file_and_a_directory_that_holds_it_are_different_inputs(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "x").write_text("x")
    assert adopt(store, directory).key != adopt(store, directory / "x").key


@pytest.mark.timeout(20)
def test_pipe_is_refused_and_does_not_hang_the_plan(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a directory nor a file"):
        adopt(Store(tmp_path / "root"), tmp_path / "pipe")


def test_checkpoint_is_known_by_its_save_and_not_read_for_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    directory = tmp_path / "weights"
    directory.mkdir()
    (directory / ".metadata").write_bytes(b"save one")
    (directory / "__0_0.distcp").write_bytes(b"bytes")
    before = adopt(store, directory).key
    (directory / "__0_0.distcp").write_bytes(b"BYTES")
    assert adopt(store, directory).key == before
    (directory / "__0_0.distcp").write_bytes(b"fewer")
    (directory / ".metadata").write_bytes(b"save two")
    assert adopt(store, directory).key != before


def test_weights_beside_a_config_do_not_count_where_only_the_config_is_taken_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "root")
    model = make(tmp_path / "model", "old")
    before = adopt(store, model, only=["*.json"]).key
    (model / "model.safetensors").write_text("new")
    assert adopt(store, model, only=["*.json"]).key == before
    (model / "config.json").write_text('{"hidden_size": 8}')
    assert adopt(store, model, only=["*.json"]).key != before
    assert adopt(store, model).key != before
