"""TensorBoard shows each step once, with the value of the last attempt, and the files hold no more than that."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.runs import environment, hold, key_of, processes_of, status, submit, wait_until, write_plan
from tests.trackers.reading import events, events_on_disk, logged, stage, table

from holdfast.core import artifact

pytest.importorskip("tensorboard")


def last(home: Path) -> list[tuple[int, Any]]:
    """What stands: of each step the value of the last attempt."""
    return [(step, pytest.approx(values[-1], abs=1e-4)) for step, values in sorted(logged(home).items())]


def test_a_resumed_run_is_shown_without_doubles_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    root, home = tmp_path / "root", tmp_path / "root" / "run"
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(60, 0.1, "tensorboard", "files")})
    submit(root, plan)
    wait_until(lambda: list(home.glob("tensorboard/*")) and max(logged(home)) >= 37)
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: status(root, "run")["state"] == "owed")
    submit(root, plan)
    wait_until(lambda: max(logged(home)) >= 55 and max(step for step, _ in events_on_disk(home, "by")) >= 45)
    while_it_runs = events(home, "by")
    shown = [step for step, _ in while_it_runs]
    assert shown == list(range(1, len(shown) + 1))
    wait_until(lambda: status(root, "run")["state"] == "complete")
    wait_until(lambda: not processes_of(root))
    assert len(logged(home)[35]) == 2
    assert events(home, "by") == events_on_disk(home, "by") == last(home)
    assert [float(row["by"]) for row in table(home)] == [value for _, value in last(home)]
    manifest = artifact.read(home)
    assert manifest and artifact.verify(home, manifest, digests=True) == []
    loose = {file.path for file in manifest.files if file.digest is None}
    assert "logs/metrics.csv" in loose and any(path.startswith("tensorboard/") for path in loose)


def test_a_tracker_that_is_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    root, home = tmp_path / "root", tmp_path / "root" / "run"
    steps = 30_000
    script = f"import holdfast\nfor i in range({steps}): holdfast.log(step=i, by=i)"
    plan = {"run": {"kind": "command", "params": {"command": [sys.executable, "-c", script]}}}
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", plan)), "--wait", code=0)
    draw = random.Random(int(os.environ.get("HOLDFAST_SEED", "7")))
    command = [sys.executable, "-m", "holdfast.trackers", "sync", "tensorboard", key_of(root, "run")]
    for _ in range(6):
        feeding = subprocess.Popen(command, env=environment(HOLDFAST_ROOT=str(root)), stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.5, 1.8))
        feeding.kill()
        feeding.wait()
    hold(root, "track", "run", "--tracker", "tensorboard", code=0)
    assert [step for step, _ in events_on_disk(home, "by")] == list(range(steps))


def test_event_files_that_were_deleted_are_made_again(tmp_path: Path) -> None:
    root, home = tmp_path / "root", tmp_path / "root" / "run"
    hold(root, "run", str(write_plan(tmp_path / "p.yaml", {"run": stage(5, 0.0, "tensorboard")})), "--wait", code=0)
    for path in (home / "tensorboard").iterdir():
        path.unlink()
    with open(home / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "name": "by", "value": 6}\n')
    hold(root, "track", "run", code=0)
    assert [step for step, _ in events_on_disk(home, "by")] == [1, 2, 3, 4, 5, 6]


def test_files_of_the_program_itself_are_left_alone(tmp_path: Path) -> None:
    root, home = tmp_path / "root", tmp_path / "root" / "run"
    script = (
        "import os, holdfast\n"
        "place = os.environ['HOLDFAST_OUT'] + '/tensorboard'\n"
        "os.makedirs(place)\n"
        "open(place + '/events.out.tfevents.1.theirs', 'w').close()\n"
        "holdfast.log(step=1, by=1)"
    )
    entry = {"kind": "command", "params": {"command": [sys.executable, "-c", script]}, "trackers": ["tensorboard"]}
    hold(root, "run", str(write_plan(tmp_path / "p.yaml", {"run": entry})), "--wait", code=0)
    hold(root, "track", "run", "--again", code=0)
    assert (home / "tensorboard/events.out.tfevents.1.theirs").exists()
    assert events_on_disk(home, "by") == [(1, 1.0)]
