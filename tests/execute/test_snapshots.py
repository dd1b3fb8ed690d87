"""`gc` takes what nothing needs any more, and never the code of work that waits, runs or is owed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.launches import launch
from tests.runs import claims, hold, key_of, python, status, wait_until, write_plan

from holdfast.core import attempt

OLD = 30 * 86400
LOGS = 'import os; open(os.environ["HOLDFAST_METRICS"], "a").write(\'{"step": 1, "name": "a", "value": 2}\\n\')'


def repository(directory: Path) -> Path:
    (directory / ".gitignore").write_text("root/\n")
    (directory / "good.py").write_text("")
    (directory / "bad.py").write_text("raise SystemExit('no')")
    gate = directory.parent / f"{directory.name}-gate"
    (directory / "late.py").write_text(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\n")
    subprocess.run(["git", "-C", str(directory), "init", "-q"], check=True)
    return directory / "root"


def launched(root: Path, name: str, *flags: str, code: int = 0) -> Path:
    """Launch a script from a snapshot of its own; returns the snapshot."""
    (root.parent / "version").write_text(name)
    before = set(snapshots(root))
    hold(root, "launch", "--executor", "local", "--snapshot", "--script", f"{name}.py", *flags, code=code)
    if "--wait" in flags:
        settle(root, name)
    (fresh,) = set(snapshots(root)) - before
    return fresh


def settle(root: Path, name: str) -> None:
    """Until the end is on record, which is a moment after the work is complete."""
    wait_until(lambda: claims(root, name)[-1].ending())


def snapshots(root: Path) -> list[Path]:
    return sorted((root / ".holdfast" / "snapshots").glob("[!.]*"))


def age(root: Path) -> None:
    """As if all of it were of last month."""
    then = time.time() - OLD
    for path in snapshots(root):
        os.utime(path, (then, then))
    for path in (root / ".holdfast" / "stages").glob("**/exit.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "finished": then}))


def test_snapshots_go_when_their_work_is_complete_or_given_up_and_old(tmp_path: Path) -> None:
    root = repository(tmp_path)
    done = launched(root, "good", "--wait")
    owed = launched(root, "bad", "--wait", code=1)
    running = launched(root, "late")
    wait_until(lambda: status(root, "late")["state"] == "running")
    hold(root, "gc", code=0)
    assert snapshots(root) == sorted([done, owed, running]), "all of them are young"

    age(root)
    assert str(done.relative_to(root)) in hold(root, "gc", "--dry", code=0).stdout and done.exists()
    hold(root, "gc", code=0)
    assert snapshots(root) == sorted([owed, running])
    hold(root, "rm", "bad", "--yes", code=0)
    hold(root, "cancel", "late", "--wait", code=0)
    settle(root, "late")
    age(root)
    hold(root, "gc", code=0)
    assert snapshots(root) == [running], "what was cancelled is owed, and goes on from it"
    (tmp_path.parent / f"{tmp_path.name}-gate").touch()
    hold(root, "run", "late", "--wait", code=0)
    settle(root, "late")
    hold(root, "gc", code=0)
    assert snapshots(root) == [running], "it ended a moment ago"
    age(root)
    hold(root, "gc", code=0)
    assert snapshots(root) == []


def test_a_snapshot_that_is_used_again_is_young_again(tmp_path: Path) -> None:
    root = repository(tmp_path)
    done = launched(root, "good", "--wait")
    age(root)
    launch(root, "--snapshot", "--script", "good.py")
    hold(root, "gc", code=0)
    assert snapshots(root) == [done]


def test_while_a_stage_cannot_be_read_no_snapshot_goes(tmp_path: Path) -> None:
    root = repository(tmp_path)
    launched(root, "good", "--wait")
    launched(root, "bad", "--wait", code=1)
    (root / ".holdfast" / "stages" / key_of(root, "bad") / "stage.json").write_text("{")
    age(root)
    hold(root, "gc", code=0)
    assert len(snapshots(root)) == 2


def test_work_whose_snapshot_is_gone_says_so(tmp_path: Path) -> None:
    root = repository(tmp_path)
    launched(root, "good", "--wait")
    age(root)
    hold(root, "gc", code=0)
    hold(root, "run", "good", "--rerun", "good", "--wait", code=1)
    assert "is not there any more: launch it again" in status(root, "good")["reason"]


def test_old_claims_of_trackers_go_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"run": python(LOGS)})), "--wait", code=0)
    for _ in range(3):
        hold(root, "track", "run", "--tracker", "files", "--again", code=0)
    (cursor,) = (root / ".holdfast" / "stages" / key_of(root, "run") / "trackers").glob("*.json")
    sequence, kept = cursor.with_suffix(""), cursor.read_bytes()
    assert len(attempt.every(sequence)) == 3
    hold(root, "gc", code=0)
    assert len(attempt.every(sequence)) == 3, "all of them are young"
    age(root)
    hold(root, "gc", code=0)
    assert sorted(path.name for path in sequence.iterdir()) == ["003", "003.json"]
    assert cursor.read_bytes() == kept and len(claims(root, "run")) == 1
    assert "nothing was missing" in hold(root, "track", "run", "--tracker", "files", code=0).stdout
    hold(root, "track", "run", "--tracker", "files", "--again", code=0)
    assert (sequence / "004.json").exists()
