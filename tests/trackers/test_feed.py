"""The right to feed a tracker, and the place where it came to, survive whoever holds them."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.runs import claims, environment, hold, key_of, processes_of, status, submit, wait_until, write_plan
from tests.trackers.reading import logged, stage

from holdfast.core.store import Store

FAKE = "holdfast.trackers.fake:Unreliable"


def records(root: Path, name: str = "run") -> Path:
    return Store(root).stage(key_of(root, name)) / "trackers"


def sent(root: Path) -> list[int]:
    """The steps that the fake tracker has, in the order in which it got them."""
    lines = (records(root) / "fake.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def sync(root: Path, tracker: str = FAKE, **changes: str) -> subprocess.Popen[bytes]:
    """One look at what a stage left, as the supervisor starts it."""
    command = [sys.executable, "-m", "holdfast.trackers", "sync", tracker, key_of(root, "run")]
    env = environment(HOLDFAST_ROOT=str(root), **changes)
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(root: Path, steps: int, *trackers: str, seconds: float = 0.0, **changes: str) -> None:
    """Run a stage to its end, and wait until nobody feeds its tracker any more."""
    plan = write_plan(root.parent / "plan.yaml", {"run": stage(steps, seconds, *trackers)})
    hold(root, "run", str(plan), "--wait", code=0, env=changes)
    wait_until(lambda: not processes_of(root), 60)


@pytest.mark.parametrize("manner", ["refuses", "raises", "dies:3", "dies:0"])
def test_a_broken_tracker_never_fails_the_work_and_is_named_in_the_log_of_the_job(manner: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 30, FAKE, seconds=0.1, HOLDFAST_FAKE_TRACKER=manner)
    assert len(logged(root / "run")) == 30
    (log,) = root.glob(".holdfast/jobs/*/runner.log")
    assert f"run: tracker {FAKE} ended: " in log.read_text()
    assert claims(root, "run")[-1].n == 1
    assert hold(root, "track", "run", code=0).stdout
    assert sent(root) == list(range(1, 31))
    assert "nothing was missing" in hold(root, "track", "run", code=0).stdout


@pytest.mark.slow
def test_a_tracker_that_hangs_holds_nobody_up_for_long(tmp_path: Path) -> None:
    root = tmp_path / "root"
    began = time.monotonic()
    finished(root, 5, FAKE, seconds=0.3, HOLDFAST_FAKE_TRACKER="hangs")
    assert time.monotonic() - began < 40
    wait_until(lambda: list(root.glob(".holdfast/jobs/*/ended.json")))
    (log,) = root.glob(".holdfast/jobs/*/runner.log")
    assert "needed more than 15 s" in log.read_text()
    hold(root, "track", "run", code=0)
    assert sent(root) == [1, 2, 3, 4, 5]


def test_a_tracker_that_cannot_be_started_or_keep_records_never_fails_the_work(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(20, 0.1, "files", "tensorboard", FAKE)})
    submit(root, plan)
    place = records(root)
    place.write_text("a file where a directory must be")
    wait_until(lambda: status(root, "run")["state"] == "complete")
    assert claims(root, "run")[-1].n == 1


def test_whoever_dies_at_any_moment_no_step_is_lost_or_sent_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 400)
    draw = random.Random(int(os.environ.get("HOLDFAST_SEED", "3")))
    for _ in range(12):
        feeding = sync(root, HOLDFAST_FAKE_TRACKER="slow:0.002")
        time.sleep(draw.uniform(0.15, 0.6))
        feeding.send_signal(signal.SIGKILL)
        feeding.communicate()
    assert hold(root, "track", "run", "--tracker", FAKE, code=0).stdout
    assert sent(root) == list(range(1, 401))


def test_a_full_disk_costs_a_tracker_and_later_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 400)
    command = [sys.executable, "-m", "holdfast.trackers", "sync", "tensorboard", key_of(root, "run")]

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    env = environment(HOLDFAST_ROOT=str(root))
    full = subprocess.run(command, env=env, preexec_fn=fill, capture_output=True, text=True, check=False)
    assert full.returncode == 1 and "File too large" in full.stderr
    pytest.importorskip("tensorboard")
    from tests.trackers.reading import events_on_disk

    hold(root, "track", "run", "--tracker", "tensorboard", code=0)
    assert [step for step, _ in events_on_disk(root / "run", "by")] == list(range(1, 401))


def test_two_who_feed_one_destination_do_not_both_send(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 60)
    first = sync(root, HOLDFAST_FAKE_TRACKER="slow:0.03")
    wait_until(lambda: (records(root) / "fake.jsonl").exists())
    assert "in flight" in hold(root, "track", "run", "--tracker", FAKE, code=3).stderr
    assert first.wait(20) == 0
    first.communicate()
    assert sent(root) == list(range(1, 61))


def test_a_fresh_result_begins_again_and_the_old_one_stays(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 5, FAKE)
    hold(root, "run", "run", "--rerun", "run", "--wait", code=0)
    wait_until(lambda: len(sent(root)) == 10 and not processes_of(root))
    rows: list[dict[str, Any]] = [json.loads(line) for line in (records(root) / "fake.jsonl").read_text().splitlines()]
    assert [(row["generation"], row["step"]) for row in rows] == [(g, s) for g in (1, 2) for s in range(1, 6)]
    hold(root, "track", "run", "--again", code=0)
    assert len(sent(root)) == 15


def test_a_damaged_cursor_is_no_reason_to_send_twice(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 10, FAKE)
    (cursor,) = records(root).glob("*.json")
    cursor.write_text("{torn")
    hold(root, "track", "run", code=0)
    assert sent(root) == list(range(1, 11))


def test_names_that_mean_no_tracker_are_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(1, 0, "wandbb")})
    refused = hold(root, "run", str(plan), code=2).stderr
    assert "there is no tracker `wandbb`" in refused and "did you mean `wandb`?" in refused
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(1, 0)})
    assert "there is no tracker `tensorbord`" in hold(root, "run", str(plan), "--tracker", "tensorbord", code=2).stderr
    assert not root.exists()


def test_track_without_a_tracker_says_how_to_name_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished(root, 1)
    assert f"holdfast --root {root} track run --tracker wandb" in hold(root, "track", "run", code=2).stderr
