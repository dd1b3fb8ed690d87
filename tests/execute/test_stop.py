"""Cleaning up takes what was asked for, and nothing that says how work stands."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runs import claims, hold, shell, status, write_plan


def test_gc_keeps_as_many_attempts_as_asked_for_none_included(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": shell("echo said; exit 3")})
    for _ in range(3):
        hold(root, "run", "plan.yaml", "--wait", code=1)
    before = status(root, "a")
    kept = {}
    for keep in ("3", "2", "1", "0"):
        hold(root, "gc", "--days", "0", "--keep", keep, code=0)
        kept[keep] = [claim.n for claim in claims(root, "a") if claim.output.exists()]
    assert kept == {"3": [1, 2, 3], "2": [2, 3], "1": [3], "0": []}
    assert {**status(root, "a"), "progress": None} == {**before, "progress": None}
    account = json.loads(hold(root, "why", "a", "--json", code=0).stdout)
    assert [each["outcome"] for each in account["attempts"]] == ["failed"] * 3


def test_gc_leaves_the_word_that_a_requeue_was_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": shell("exit 3")})
    hold(root, "run", "plan.yaml", "--wait", code=1)
    (claim,) = claims(root, "a")
    claim.refusal.write_text('{"schema": 1, "reason": "not allowed here"}')
    hold(root, "gc", "--days", "0", "--keep", "0", code=0)
    assert claim.refusal.exists() and not claim.output.exists()
