"""What is typed wrongly is answered with what to type, and that works as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tests.runs import hold, shell, write_plan

from holdfast.cli import root


def test_hint_keeps_the_root_that_was_typed(tmp_path: Path) -> None:
    place = tmp_path / "my runs"
    write_plan(tmp_path / "plan.yaml", {"a": shell("true")})
    hold(place, "run", "plan.yaml", "--wait", code=0)
    write_plan(tmp_path / "plan.yaml", {"a": shell("false")})
    hint = hold(place, "run", "plan.yaml", code=2).stderr.partition("hint: ")[2]
    command = shlex.split(hint.partition(": ")[2])
    assert command == ["holdfast", "--root", str(place), "rm", "a"]
    hold(tmp_path / "other", *command[1:], "--yes", code=0)
    hold(place, "run", "plan.yaml", "--wait", code=1)


@pytest.mark.parametrize(
    ("typed", "text", "kept"),
    [
        ("a b", "wait for it, or: holdfast cancel x --wait", "wait for it, or: holdfast --root 'a b' cancel x --wait"),
        ("r", "holdfast why a, then holdfast run a", "holdfast --root r why a, then holdfast --root r run a"),
        ("r", "holdfast status --root /there", "holdfast status --root /there"),
        ("r", "move what holdfast did not make", "move what holdfast did not make"),
        (None, "holdfast why a", "holdfast why a"),
    ],
)  # fmt: skip
def test_only_commands_get_the_root_and_each_once(typed: str | None, text: str, kept: str) -> None:
    assert root.keep(text, typed) == kept


@pytest.mark.parametrize(
    "arguments",
    [
        ("gc", "--days", "-1"), ("gc", "--days", "nan"), ("gc", "--keep", "-3"), ("run", "a", "--gpus", "-1"),
        ("logs", "a", "-n", "0"), ("run", "a", "--nodes", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_number_that_cannot_be_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    said = hold(tmp_path / "root", *arguments, code=2).stderr
    assert "is not 0 or more" in said or "is not 1 or more" in said


def test_every_verb_is_one_that_a_hint_may_name() -> None:
    from holdfast.cli.main import VERBS

    assert all(root.keep(f"holdfast {verb} x", "r") == f"holdfast --root r {verb} x" for verb in VERBS)
