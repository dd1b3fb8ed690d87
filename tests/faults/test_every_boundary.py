"""A crash at any write, fsync, link, rename, mkdir or unlink loses nothing and leaves nothing half-believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.runs import REPOSITORY, claims, environment, hold, status, submit, wait_until, write_plan

CRASH = REPOSITORY / "tests" / "faults" / "crash.py"
SHIM = REPOSITORY / "tests" / "faults" / "shim"
EVERY = 1 if os.environ.get("HOLDFAST_SOAK") else 4
"""Of the boundaries of a whole run, whose processes start slowly, every how manieth is crashed at."""
STAGES = {
    "first": {"kind": "command", "params": {"command": ["sh", "-c", "echo first > {out}/x"], "makes": ["x"]}},
    "note": {"kind": "tests.kinds:Note", "params": {"text": "whole"}},
}


@pytest.mark.parametrize(
    ("scenario", "operations"),
    [
        ("publish_sealed", {"write", "fsync", "rename", "mkdir"}),
        ("first_generation", {"write", "fsync", "rename", "symlink"}),
        ("next_generation", {"write", "fsync", "rename", "symlink"}),
        ("publish_in_place", {"write", "fsync", "link", "unlink"}),
        ("claim", {"write", "fsync", "link", "mkdir", "unlink"}),
        ("exit_record", {"write", "fsync", "link", "unlink"}),
        ("checkpoint", {"write", "fsync", "rename", "mkdir"}),
        ("submit", {"write", "fsync", "link", "rename", "mkdir", "symlink", "syncfs", "unlink"}),
        ("rerun", {"write", "fsync", "link", "rename", "syncfs"}),
        ("rows", {"write", "fsync", "mkdir"}),
        ("remove", {"write", "fsync", "link", "rename"}),
    ],
)
def test_work_crashed_at_any_boundary_is_done_by_doing_it_again(
    scenario: str, operations: set[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(CRASH), scenario, str(tmp_path)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert operations <= {boundary.split()[2] for boundary in json.loads(done.stdout)}


def boundaries_of_a_run(directory: Path) -> list[tuple[str, int]]:
    """(role, number) of every boundary in the processes of one run of the plan."""
    root, listing = directory / "listed", directory / "list"
    plan = write_plan(directory / "plan.yaml", STAGES)
    submit(root, plan, env=shim(root, CRASH_LIST=str(listing)))
    wait_until(lambda: list(root.glob(".holdfast/jobs/*/ended.json")))
    seen: Counter[str] = Counter()
    for line in listing.read_text().splitlines():
        role, number, *_ = line.split()
        seen[role] = max(seen[role], int(number) + 1)
    assert set(seen) >= {"runner", "supervisor", "finish"}, seen
    return [(role, number) for role in seen if role != "other" for number in range(seen[role])]


def shim(root: Path, **variables: str) -> dict[str, str]:
    path = os.pathsep.join([str(SHIM), environment()["PYTHONPATH"]])
    return {"PYTHONPATH": path, "CRASH_ROOT": f"{root}/", **variables}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_run_whose_processes_crash_at_a_boundary_is_finished_by_the_same_command(part: int, tmp_path: Path) -> None:
    everywhere = boundaries_of_a_run(tmp_path)
    for role, number in everywhere[part :: 4 * EVERY]:
        when = ("before", "after")[number % 2]
        root = tmp_path / f"{role}-{number}-{when}"
        crash = shim(root, CRASH_ROLE=role, CRASH_AT=f"{number}.{when}", CRASH_ONCE=str(tmp_path / f"{root.name}.once"))
        submit(root, tmp_path / "plan.yaml", env=crash, max_parallel=2)
        for _ in range(3):
            if hold(root, "run", str(tmp_path / "plan.yaml"), "--wait", "--max-parallel", "2").returncode == 0:
                break
        assert (root / "first" / "x").read_text() == "first\n"
        assert (root / "note" / "note.txt").read_text() == "whole"
        for name in STAGES:
            assert status(root, name)["state"] == "complete", (role, number, when)
            assert len(claims(root, name)) <= 2, "one crash costs one attempt"
