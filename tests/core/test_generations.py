"""A result is made anew under those who read it: they keep what they have, and the next one counts from one moment."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.runs import claims, hold, status, write_plan

from holdfast.core import artifact, files, generations
from holdfast.core.artifact import Manifest
from holdfast.core.errors import NameTaken

KEY = "a" * 64


def build(place: Path, text: str, key: str = KEY) -> tuple[Path, Manifest]:
    built = place / f"{files.TEMPORARY}{files.new_token()}"
    built.mkdir(parents=True)
    (built / "weights").write_text(text)
    return built, artifact.seal(built, {"key": key, "generations": True})


def publish(home: Path, text: str, replaces: str = "", key: str = KEY) -> bool:
    built, manifest = build(home.parent, text, key)
    return generations.publish(built, home, manifest, replaces)


def test_first_result_wins_and_the_second_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "model"
    assert publish(home, "first")
    assert not publish(home, "second")
    assert (home / "weights").read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == [".model.g1", "model"]
    assert artifact.holds(home, KEY)


def test_who_reads_the_old_generation_keeps_it_when_the_next_one_counts(tmp_path: Path) -> None:
    home = tmp_path / "model"
    publish(home, "first")
    reader = home.resolve()
    assert publish(home, "second", replaces=generations.current(home))
    assert (home / "weights").read_text() == "second"
    assert (reader / "weights").read_text() == "first"


def test_generation_that_replaces_one_which_is_gone_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    home = tmp_path / "model"
    publish(home, "first")
    before = generations.current(home)
    assert publish(home, "second", before)
    assert not publish(home, "late", before)
    assert (home / "weights").read_text() == "second"


def test_of_many_who_publish_at_once_one_does(tmp_path: Path) -> None:
    home = tmp_path / "model"
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda number: publish(home, str(number)), range(24))) == 1
    assert len(generations.directories(home)) == 1


def test_other_work_at_the_name_is_not_replaced(tmp_path: Path) -> None:
    home = tmp_path / "model"
    publish(home, "theirs", key="b" * 64)
    with pytest.raises(NameTaken, match="holds other work"):
        publish(home, "ours")
    assert (home / "weights").read_text() == "theirs"


def test_result_done_again_is_the_next_generation_and_deletion_takes_all(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"note": {"kind": "tests.kinds:Shared", "params": {"text": "x"}}})
    hold(root, "run", str(plan), "--wait", code=0)
    old = (root / "note").resolve()
    hold(root, "run", str(plan), "--wait", "--rerun", "note", code=0)
    assert len(claims(root, "note")) == 2
    assert (root / "note").resolve() != old
    assert (old / "note.txt").read_text() == (root / "note" / "note.txt").read_text() == "x"
    assert status(root, "note")["state"] == "complete"
    hold(root, "rm", "note", "--yes", code=0)
    assert [name for name in os.listdir(root) if "note" in name] == []


def test_what_needs_a_result_that_could_not_be_made_anew_does_not_take_the_old_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    flaky = {"kind": "tests.kinds:Flaky", "params": {"text": "x", "breaks": str(tmp_path / "broken")}}
    copy = {
        "kind": "command",
        "params": {"command": ["sh", "-c", "cp {inputs.note}/note.txt {out}/copy"], "makes": ["copy"]},
        "inputs": {"note": "note"},
    }
    hold(root, "run", str(write_plan(tmp_path / "one.yaml", {"note": flaky})), "--wait", code=0)
    (tmp_path / "broken").touch()
    plan = write_plan(tmp_path / "two.yaml", {"note": flaky, "copy": copy})
    hold(root, "run", str(plan), "--wait", "--rerun", "note")
    assert not (root / "copy" / "copy").exists()
    assert status(root, "copy")["state"] == "owed"
    assert (root / "note" / "note.txt").read_text() == "x", "who read it keeps it"


def test_what_waits_for_a_result_that_is_made_anew_takes_the_new_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    note = {"kind": "tests.kinds:Shared", "params": {"text": "x", "seconds": 1.0}}
    copy = {
        "kind": "command",
        "params": {"command": ["sh", "-c", "readlink {inputs.note} > {out}/which"], "makes": ["which"]},
        "inputs": {"note": "note"},
    }
    hold(root, "run", str(write_plan(tmp_path / "one.yaml", {"note": note})), "--wait", code=0)
    plan = write_plan(tmp_path / "two.yaml", {"note": note, "copy": copy})
    hold(root, "run", str(plan), "--wait", "--rerun", "note", "--max-parallel", "2", code=0)
    assert (root / "copy" / "which").read_text().strip() == ".note.g2"
