"""kill -9 of anything at any moment: the same command finishes the work, and exclusive programs never overlap."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.runs import hold, processes_of, python, submit, wait_until, write_plan

from holdfast.core import artifact
from holdfast.core.store import Store

KILLS_PER_ROOT = 5
STAGES = ("exclusive", "exclusive2", "note", "ask")
ROOTS = 200 if os.environ.get("HOLDFAST_SOAK") else 10
PROGRAM = """
import os, sys, time
evidence, out = sys.argv[1:]
def started(pid):
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
def write(line):
    fd = os.open(evidence, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, line.encode() + b"\\n")
    os.close(fd)
me = f"{os.getpid()} {started(os.getpid())}"
write(f"start {me}")
time.sleep(0.1)
lines = [line.split() for line in open(evidence)]
ended = {tuple(words[1:]) for words in lines if words[0] == "end"}
for word, pid, start in lines:
    if word == "start" and f"{pid} {start}" != me and (pid, start) not in ended and started(pid) == start:
        write(f"overlap {me}")
time.sleep(0.1)
open(os.path.join(out, "result.txt"), "w").write("right")
write(f"end {me}")
"""


def plan_of(directory: Path) -> Path:
    stages = {
        name: python(PROGRAM, str(directory / f"{name}.evidence"), "{out}") for name in ("exclusive", "exclusive2")
    }
    stages["note"] = {"kind": "tests.kinds:Note", "params": {"text": "right", "seconds": 0.2}}
    stages["ask"] = {"kind": "tests.kinds:Ask", "params": {"times": 3}}
    return write_plan(directory / "plan.yaml", stages)


def kill_one(root: Path, dice: random.Random) -> str:
    """kill -9 of one of the processes that work for this root, by role first so that none is forgotten."""
    roles: dict[str, list[int]] = {}
    for pid, command in processes_of(root).items():
        last = command[-3:]
        role = "runner" if command[-1].endswith(tuple("0123456789abcdef")) and "supervisor.pyz" in last[-2] else "child"
        role = "supervisor" if "supervisor.pyz" in last[0] else role
        role = "service" if any(token.endswith("server.py") for token in command) else role
        roles.setdefault(role, []).append(pid)
    if not roles:
        return "nobody"
    role = dice.choice(sorted(roles))
    try:
        os.kill(dice.choice(roles[role]), signal.SIGKILL)
    except ProcessLookupError:
        return "nobody"
    return role


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROOTS))
def test_work_that_is_killed_at_random_moments_is_finished_by_the_same_command(seed: int, tmp_path: Path) -> None:
    dice, root, plan = random.Random(seed), tmp_path / "root", plan_of(tmp_path)
    killed: list[str] = []
    for _ in range(40):
        if not submit(root, plan, max_parallel=3) and not processes_of(root):
            submit(root, plan, *STAGES, max_parallel=3)
        time.sleep(dice.uniform(0.0, 0.9))
        killed.append(kill_one(root, dice))
        if len([role for role in killed if role != "nobody"]) >= KILLS_PER_ROOT:
            break
    for _ in range(4):
        done = hold(root, "run", str(plan), "--wait", "--max-parallel", "3")
        if done.returncode == 0:
            break
    assert done.returncode == 0, (killed, done.stdout)
    check_results(tmp_path, root)


def check_results(directory: Path, root: Path) -> None:
    assert (root / "note" / "note.txt").read_text() == "right"
    assert (root / "ask" / "answers.txt").read_text() == "/0\n/1\n/2\n"
    for name in ("exclusive", "exclusive2"):
        assert (root / name / "result.txt").read_text() == "right"
        assert "overlap" not in (directory / f"{name}.evidence").read_text()
    store = Store(root)
    for name in STAGES:
        manifest = artifact.holds(root / name, store.find(name).key)
        assert manifest and artifact.verify(root / name, manifest, digests=True) == []
        assert len(list((root / name).glob(f"**/{artifact.MANIFEST}"))) == 1
    wait_until(lambda: not processes_of(root), 10)
