"""A mistake in a kind of one's own is said with the file and the line, and a kind is found from wherever one types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.runs import ENTRY, environment, hold, shell, write_plan

SHOUT = """
from holdfast.core.kind import Kind

class Shout(Kind):
    name = "shout"

    def run(self, params, inputs, out):
        (out.path / "loud").write_text("HEY")
"""


@pytest.mark.parametrize(
    ("code", "name", "says", "hint"),
    [
        ("def x(:\n", "mine:Shout", "mine.py:1: invalid syntax", "correct "),
        ("import os\nimport nothere\n", "mine:Shout", "mine.py:2: ModuleNotFoundError: No module named", "correct "),
        ("x = 1\ny = x / 0\n", "mine:Shout", "mine.py:2: ZeroDivisionError: division by zero", "correct "),
        ("import dataclasses\ndataclasses.fields(1)\n", "mine:Shout", "mine.py:2: TypeError", "correct "),
        (SHOUT, "mine:Shoot", "mine.py has no `Shoot`", "did you mean `mine:Shout`?"),
        ("", "mine:Shout", "mine.py has no `Shout`", "write `class Shout(Kind)`"),
        (SHOUT, "mien:Shout", "no module `mien` in {cwd}", "did you mean `mine:Shout`?"),
        (SHOUT, "mine.deep:Shout", "there is no module `mine.deep`", "PYTHONPATH"),
        (SHOUT + "class Not: pass\n", "mine:Not", "mine.py:9), expected a class derived from", "there is mine:Shout"),
        (
            SHOUT.replace('name = "shout"', "x = 1"),
            "mine:Shout",
            "has no name: {cwd}/mine.py:4",
            'add `name = "shout"`',
        ),
        (SHOUT.replace("x = 1", ""), ":Shout", "cannot be imported", "package.module:Class"),
        (SHOUT + '    inputs = ("text")\n', "mine:Shout", "has inputs 'text', expected a tuple", "with the comma"),
        (
            SHOUT + "    class Params:\n        x = 1\n",
            "mine:Shout",
            "expected a class of params",
            "holdfast.core.kind",
        ),
        (SHOUT.replace("run(", "runs("), "mine:Shout", "has neither run nor command: {cwd}/mine.py:4", "def run"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_mistake_in_a_kind_of_ones_own_is_said_with_its_place(
    code: str, name: str, says: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(code)
    write_plan(tmp_path / "plan.yaml", {"a": {"kind": name}})
    said = hold(tmp_path / "root", "run", "plan.yaml", code=2).stderr
    told, _, way_out = said.partition("\n\nhint: ")
    assert says.format(cwd=tmp_path) in told and told.count("\n") == 0, said
    assert hint in way_out and "Traceback" not in said, said


def from_directory(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Type a command there, as the installed program: only what Python finds by itself, and what we look for."""
    # `python -c` would look in the working directory first.
    entry = f"import sys; sys.path.remove(''); {ENTRY}"
    return subprocess.run(
        [sys.executable, "-c", entry, *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_kind_beside_its_plan_is_found_from_anywhere_by_the_job_too(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "mine.py").write_text(SHOUT)
    plan = write_plan(project / "plan.yaml", {"a": {"kind": "mine:Shout"}})
    root = ["--root", str(tmp_path / "root")]
    done = from_directory(elsewhere, *root, "run", str(plan), "--wait")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "a" / "loud").read_text() == "HEY"
    done = from_directory(elsewhere, *root, "run", "a", "--rerun", "a", "--wait")
    assert done.returncode == 0, done.stderr


def test_kind_that_nobody_can_find_says_where_was_looked(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    plan = write_plan(tmp_path / "plans" / "plan.yaml", {"a": {"kind": "mine:Shout"}, "b": shell("true")})
    done = from_directory(tmp_path, "run", str(plan), "--dry")
    assert done.returncode == 2
    assert f"no module `mine` in {tmp_path} or {tmp_path / 'plans'}, nor where Python looks" in done.stderr
    assert "type this in the directory that holds mine, or put that on PYTHONPATH" in done.stderr
