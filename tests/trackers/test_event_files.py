"""TensorBoard shows each step once, with the value of the last attempt, and the files hold no more than that."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runs import environment, hold, key_of, processes_of, status, submit, wait_until, write_plan
from tests.trackers.reading import accumulators, events, events_on_disk, logged, shown, stage, table

from holdfast.core import artifact
from holdfast.trackers import Mark, Row, Subject
from holdfast.trackers.event_files import EventFiles

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
    while_it_runs = [step for step, _ in events(home, "by")]
    assert while_it_runs == list(range(1, len(while_it_runs) + 1))
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
    wait_until(lambda: not processes_of(root))
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
    wait_until(lambda: not processes_of(root))
    hold(root, "track", "run", "--again", code=0)
    assert (home / "tensorboard/events.out.tfevents.1.theirs").exists()
    assert events_on_disk(home, "by") == [(1, 1.0)]


def rows(steps: Iterable[int], value: float, seen: frozenset[int] = frozenset(), every: int = 2) -> Iterator[Row]:
    """`by` at each step and `eval` at each `every`th, as an attempt logs them; `seen` are steps of earlier attempts."""
    for step in steps:
        values = {"by": value} | ({"eval": value} if step % every == 0 else {})
        yield Row(step, values, frozenset() if step in seen else frozenset(values), None, 1, step, step)


def written(home: Path, mark: Mark, rows: Iterable[Row]) -> Mark:
    """Where a process of its own came to that shows `rows` after what `mark` says is there."""
    tracker = EventFiles(Subject("key", "run", "command", {}, home, home, home), {})
    tracker.open(mark, 0)
    for row in rows:
        tracker.write(row)
    mark = tracker.flush() or Mark()
    assert tracker.file
    tracker.file.close()
    return mark


@pytest.mark.parametrize("again", [30, 31, 40])
def test_steps_that_a_process_of_its_own_repeats_are_shown_once(tmp_path: Path, again: int) -> None:
    mark = written(tmp_path, Mark(), rows(range(1, 41), 1.0))
    written(tmp_path, mark, rows(range(again, 46), 2.0, frozenset(range(1, 41))))
    expected = [(step, 1.0 if step < again else 2.0) for step in range(1, 46)]
    assert events(tmp_path, "by") == expected
    assert events(tmp_path, "eval") == [(step, value) for step, value in expected if step % 2 == 0]


def test_a_step_that_is_repeated_at_once_is_shown_once(tmp_path: Path) -> None:
    written(tmp_path, Mark(), [*rows(range(1, 41), 1.0), *rows([40, 41], 2.0, frozenset([40]))])
    assert events(tmp_path, "by") == [*((step, 1.0) for step in range(1, 40)), (40, 2.0), (41, 2.0)]


def test_who_looks_on_while_files_are_replaced_sees_no_step_twice(tmp_path: Path) -> None:
    seen = frozenset(range(1, 41))
    mark = written(tmp_path, Mark(), rows(range(1, 41), 1.0))
    mark = written(tmp_path, mark, rows(range(30, 61), 2.0, seen))
    looking = accumulators(tmp_path)
    tracker = EventFiles(Subject("key", "run", "command", {}, tmp_path, tmp_path, tmp_path), {})
    tracker.open(mark, 0)
    tracker.close(lambda: iter([*rows(range(1, 30), 1.0), *rows(range(30, 61), 2.0)]), 0)
    expected = [(step, 1.0 if step < 30 else 2.0) for step in range(1, 61)]
    for reader in looking:
        reader.Reload()
    for tag, every in (("by", 1), ("eval", 2)):
        once = [(step, value) for step, value in expected if step % every == 0]
        assert shown(looking, tag) == events(tmp_path, tag) == once
