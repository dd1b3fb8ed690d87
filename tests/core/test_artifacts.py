"""A manifest proves what it says, whatever is done to the directory or to the file itself."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import artifact, files
from holdfast.core.errors import DamagedFile, NameTaken, NewerSchema, UnreadableFile

KEY = "a" * 64
NAMES = st.text("abc/._-é", min_size=1, max_size=8).filter(
    lambda name: not name.startswith(("/", ".")) and all(part not in ("", ".", "..") for part in name.split("/"))
)
TREES = st.dictionaries(NAMES, st.binary(max_size=64), max_size=6)


def write(directory: Path, tree: dict[str, bytes]) -> dict[str, bytes]:
    """Write what fits together (a name may be the folder of another); returns what was written."""
    written = {}
    for name, data in tree.items():
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            continue
        written[os.path.normpath(name)] = data
    return written


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_manifest_lists_every_file_and_verifies(tree: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        home.mkdir()
        written = write(home, tree)
        assert artifact.publish_in_place(home, artifact.seal(home, {"key": KEY}))
        manifest = artifact.holds(home, KEY)
        assert manifest and {file.path for file in manifest.files} == set(written)
        assert artifact.verify(home, manifest, digests=True) == []


@given(TREES.filter(bool), st.data())
@settings(max_examples=60, deadline=None)
def test_any_change_to_a_sealed_file_is_seen(tree: dict[str, bytes], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        home.mkdir()
        write(home, tree)
        manifest = artifact.seal(home, {"key": KEY})
        victim = home / data.draw(st.sampled_from([file.path for file in manifest.files]))
        change = data.draw(st.sampled_from(["byte", "shorter", "gone", "link", "folder"]))
        content = victim.read_bytes()
        if change in ("byte", "shorter") and not content:
            return
        victim.unlink()
        if change == "byte":
            victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        elif change == "shorter":
            victim.write_bytes(content[:-1])
        elif change == "link":
            victim.symlink_to("/etc/hostname")
        elif change == "folder":
            victim.mkdir()
        assert artifact.verify(home, manifest, digests=True)
        if change != "byte":
            assert artifact.verify(home, manifest, digests=False), "sizes alone show it"


@given(TREES, TREES)
@settings(max_examples=40, deadline=None)
def test_equal_digests_mean_equal_bytes(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        digests, trees = [], []
        for name, tree in (("one", one), ("other", other)):
            (Path(place) / name).mkdir()
            trees.append(write(Path(place) / name, tree))
            digests.append(artifact.seal(Path(place) / name, {"key": name}).digest)
        assert (digests[0] == digests[1]) is (trees[0] == trees[1])


def sealed(home: Path) -> artifact.Manifest:
    home.mkdir(parents=True)
    (home / "x").write_text("x")
    manifest = artifact.seal(home, {"key": KEY, "inputs": {}})
    artifact.publish_in_place(home, manifest)
    return manifest


def test_every_truncated_manifest_proves_nothing(tmp_path: Path) -> None:
    sealed(tmp_path / "home")
    path = tmp_path / "home" / artifact.MANIFEST
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        assert artifact.holds(tmp_path / "home", KEY) is None
        with pytest.raises(DamagedFile, match="manifest"):
            artifact.read(tmp_path / "home")


FOREIGN: list[Any] = [
    [], 5, "x", None, {}, {"schema": "1"}, {"schema": True}, {"schema": 1}, {"schema": 1, "key": 5},
    {"schema": 1, "key": KEY, "digest": "d", "files": {}}, {"schema": 1, "key": KEY, "digest": None, "files": []},
    {"schema": 1, "key": KEY, "digest": "d", "files": [], "inputs": []},
    {"schema": 1, "key": KEY, "digest": "d", "files": [], "attempt": "one"},
    {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"},
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN, ids=lambda content: json.dumps(content)[:40])
def test_foreign_manifest_is_damaged_and_never_a_crash(content: Any, tmp_path: Path) -> None:
    (tmp_path / artifact.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DamagedFile) as error:
        artifact.read(tmp_path)
    assert str(tmp_path) in str(error.value) and error.value.hint


def test_deeply_nested_json_is_damaged_and_never_a_crash(tmp_path: Path) -> None:
    (tmp_path / artifact.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(DamagedFile, match="nested too deeply"):
        artifact.read(tmp_path)


@pytest.mark.parametrize("entry", [["x"], ["x", "1", "d"], [1, 2, "d"], ["x", 1, 5], {}, "xyz"])
def test_foreign_list_of_files_is_damaged(entry: Any) -> None:
    with pytest.raises(DamagedFile):
        assert artifact.Manifest({"key": KEY, "digest": "d", "files": [entry]}).files


def test_manifest_of_a_later_version_is_never_overwritten(tmp_path: Path) -> None:
    manifest = sealed(tmp_path / "home")
    path = tmp_path / "home" / artifact.MANIFEST
    path.write_text(json.dumps({"schema": files.SCHEMA + 1, "new": "form"}))
    later = path.read_bytes()
    with pytest.raises(NewerSchema):
        artifact.publish_in_place(tmp_path / "home", manifest)
    (tmp_path / "built").mkdir()
    with pytest.raises(UnreadableFile):
        artifact.publish(tmp_path / "built", tmp_path / "home", manifest)
    assert path.read_bytes() == later


def test_home_of_other_work_is_refused_and_kept(tmp_path: Path) -> None:
    sealed(tmp_path / "home")
    (tmp_path / "built").mkdir()
    other = artifact.seal(tmp_path / "built", {"key": "b" * 64})
    with pytest.raises(NameTaken, match=f"key {KEY[:12]}, expected key bbbbbbbbbbbb"):
        artifact.publish(tmp_path / "built", tmp_path / "home", other)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years")
    with pytest.raises(NameTaken, match="no manifest"):
        artifact.publish(tmp_path / "built", tmp_path / "foreign", other)
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "years"


def test_checkpoint_that_was_moved_to_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    manifest = artifact.seal(tmp_path / "built", {"key": KEY, "path": "steps/step_1"})
    artifact.publish(tmp_path / "built", tmp_path / "steps" / "step_2", manifest)
    (tmp_path / "again").mkdir()
    right = artifact.seal(tmp_path / "again", {"key": KEY, "path": "steps/step_2"})
    with pytest.raises(NameTaken, match="steps/step_1"):
        artifact.publish(tmp_path / "again", tmp_path / "steps" / "step_2", right)


def test_pipe_or_socket_in_a_home_does_not_hang_its_publication(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(tmp_path / "socket"))
    server.close()
    assert [file.path for file in artifact.seal(tmp_path, {"key": KEY}).files] == ["x"]


def test_loose_files_may_change(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("one")
    manifest = artifact.seal(tmp_path, {"key": KEY}, loose=("logs/*",))
    (tmp_path / "logs" / "a.log").write_text("one and more")
    assert artifact.verify(tmp_path, manifest, digests=True) == []
