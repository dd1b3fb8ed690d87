"""A command is complete when what it promised is there, and says what is wrong where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runs import hold, python, shell, status, wait_until, write_plan

from holdfast.stages.command import Command, CommandParams


def owed(home: Path, *makes: str) -> str | None:
    return Command().owed(CommandParams(command=("x",), makes=makes), home)


@pytest.mark.parametrize(
    ("makes", "says"),
    [
        ("made.json", None), ("*.json", None), ("sub/*", None), ("sub", None), ("odd[1].txt", None),
        ("*.log", "*.log is empty"), ("empty.log", "empty.log is empty"),
        ("mad.json", "mad.json (there is: made.json, empty.log, odd[1].txt, sub/x)"),
        ("*.jsno", "*.jsno (there is: "), ("sub/y", "sub/y (there is: sub/x, "),
    ],
)  # fmt: skip
def test_what_is_not_made_is_named_with_what_is_there(makes: str, says: str | None, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty.log").touch()
    for name in ("made.json", "sub/x", "odd[1].txt", ".hidden", "metrics.jsonl"):
        (tmp_path / name).write_text("x")
    told = owed(tmp_path, makes)
    assert told is None if says is None else told and told.startswith(f"exited 0 without its output: {says}")


def test_empty_home_is_said_and_a_long_one_not_listed(tmp_path: Path) -> None:
    assert owed(tmp_path, "x") == "exited 0 without its output: x (nothing is there)"
    for number in range(30):
        (tmp_path / f"{number:02d}").write_text("x")
    assert str(owed(tmp_path, "model")).endswith("05, 06, 07, and 22 more)")


def test_user_reads_why_in_the_status(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", {"a": shell("echo 1 > {out}/result.txt", makes=["results.txt"])})
    hold(tmp_path / "root", "run", "plan.yaml", "--wait", code=1)
    assert "results.txt (there is: result.txt)" in status(tmp_path / "root", "a")["reason"]


@pytest.mark.parametrize(("fields", "total"), [({}, 3), ({"total_steps": 9}, 9)])
def test_lines_of_metrics_show_how_far_a_command_is(fields: dict[str, int], total: int, tmp_path: Path) -> None:
    script = """
import os, sys, time
with open(os.environ["HOLDFAST_METRICS"], "a") as file:
    file.write('{"step": 3, "name": "loss", "value": 0.5}\\n')
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""
    write_plan(tmp_path / "plan.yaml", {"a": python(script, str(tmp_path / "go"), **fields)})
    root = tmp_path / "root"
    hold(root, "run", "plan.yaml", code=0)
    progress = wait_until(lambda: status(root, "a")["progress"])
    assert progress == {"done": 3, "total": total, "unit": "step"}
    (tmp_path / "go").touch()
    wait_until(lambda: status(root, "a")["state"] == "complete")
