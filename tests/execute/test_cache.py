"""What can be made again may go when space is needed; what is pinned or read may not, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.runs import claims, hold, key_of, start, status, wait_until, write_plan

from holdfast.core.store import Store

READS = "cat {inputs.note}/note.txt > {out}/copy"


def note(text: str) -> dict[str, Any]:
    return {"kind": "tests.kinds:Shared", "params": {"text": text}}


def reader(name: str, script: str = READS) -> dict[str, Any]:
    return {
        "kind": "command",
        "params": {"command": ["sh", "-c", script], "makes": ["copy"]},
        "inputs": {"note": name},
    }


def fill(tmp_path: Path) -> Path:
    """Three notes of about 1,000, 2,000 and 3,000 bytes, used in this order, two days ago, one, and now."""
    root = tmp_path / "root"
    stages = {f"n{number}": note("x" * 1000 * number) for number in (1, 2, 3)}
    hold(root, "run", str(write_plan(tmp_path / "notes.yaml", stages)), "--wait", code=0)
    for number in (1, 2, 3):
        used = Store(root).stage(key_of(root, f"n{number}")) / "used"
        used.touch()
        os.utime(used, (time.time() - (3 - number) * 86400,) * 2)
    return root


def listed(root: Path) -> dict[str, dict[str, Any]]:
    return {entry["home"]: entry for entry in json.loads(hold(root, "cache", "ls", "--json", code=0).stdout)}


def gone(root: Path, *arguments: str) -> list[str]:
    return [entry["path"] for entry in json.loads(hold(root, "cache", "gc", "--json", *arguments, code=0).stdout)]


def test_quota_takes_out_what_was_longest_unused_and_no_more_than_it_must(tmp_path: Path) -> None:
    root = fill(tmp_path)
    total = sum(entry["bytes"] for entry in listed(root).values())
    assert gone(root, "--quota", str(total - 500), "--dry") == ["n1"]
    assert (root / "n1").exists()
    assert gone(root, "--quota", str(total - 500)) == ["n1"]
    assert not (root / "n1").exists()
    assert (root / "n2").exists()
    assert status(root, "n1")["state"] == "evicted"
    assert "made again when something needs it" in status(root, "n1")["reason"]
    assert gone(root, "--unused", "0.5") == ["n2"]


def test_pinned_result_stays_whatever_the_quota_is(tmp_path: Path) -> None:
    root = fill(tmp_path)
    hold(root, "cache", "pin", "n1", "--reason", "baseline", code=0)
    assert "baseline" in listed(root)["n1"]["pinned"]
    assert gone(root, "--quota", "0") == ["n2", "n3"]
    assert (root / "n1").exists()
    hold(root, "cache", "unpin", "n1", code=0)
    assert gone(root, "--quota", "0") == ["n1"]


def test_result_that_is_read_at_this_moment_stays(tmp_path: Path) -> None:
    root = fill(tmp_path)
    slow = {"n1": note("x" * 1000), "slow": reader("n1", f"while [ ! -e go ]; do sleep 0.1; done; {READS}")}
    running = start(root, "run", str(write_plan(tmp_path / "slow.yaml", slow)), "--wait")
    wait_until(lambda: listed(root)["n1"]["in_use"])
    assert gone(root, "--quota", "0") == ["n2", "n3"]
    (tmp_path / "go").touch()
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert (root / "slow" / "copy").read_text() == "x" * 1000


def test_what_went_is_made_again_for_who_needs_it_and_for_nobody_else(tmp_path: Path) -> None:
    root = fill(tmp_path)
    gone(root, "--quota", "0")
    stages = {f"n{number}": note("x" * 1000 * number) for number in (1, 2)} | {"copy": reader("n1")}
    plan = write_plan(tmp_path / "copy.yaml", stages)
    hold(root, "run", str(plan), "--wait")
    assert (root / "copy" / "copy").read_text() == "x" * 1000
    assert (len(claims(root, "n1")), len(claims(root, "n2"))) == (2, 1)
    assert status(root, "n2")["state"] == "evicted"
    gone(root, "--quota", "0")
    hold(root, "run", str(plan), "--wait")
    assert len(claims(root, "n1")) == 2, "what was made of it is complete"


def test_last_use_is_when_a_stage_read_it(tmp_path: Path) -> None:
    root = fill(tmp_path)
    before = listed(root)["n1"]["used"]
    stages = {"n1": note("x" * 1000), "copy": reader("n1")}
    hold(root, "run", str(write_plan(tmp_path / "copy.yaml", stages)), "--wait", code=0)
    assert listed(root)["n1"]["used"] > before + 80000


def test_generation_that_no_longer_counts_goes_after_a_while(tmp_path: Path) -> None:
    root = fill(tmp_path)
    old = (root / "n1").resolve()
    hold(root, "run", str(tmp_path / "notes.yaml"), "--wait", "--rerun", "n1", code=0)
    os.utime(old, (time.time() - 7200,) * 2)
    assert gone(root) == [], "it counted until a moment ago, and may be read"
    os.utime(root / "n1", (time.time() - 7200,) * 2, follow_symlinks=False)
    assert gone(root) == [old.name]
    assert (root / "n1" / "note.txt").exists()
