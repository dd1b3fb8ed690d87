"""Jobs on this machine: they outlive the terminal, keep to their order and number, and can be looked after."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.runs import (
    ENTRY,
    claims,
    environment,
    hold,
    processes_of,
    python,
    shell,
    start,
    status,
    submit,
    wait_until,
    write_plan,
)

NOTES = """
import os, sys, time
def write(word):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word} {sys.argv[2]}\\n".encode())
    os.close(fd)
write("start")
time.sleep(0.3)
write("end")
"""


def test_job_outlives_the_terminal_that_it_was_typed_in(tmp_path: Path) -> None:
    root = tmp_path / "root"
    go = tmp_path / "go"
    waits = shell(f"until [ -e {go} ]; do sleep 0.1; done; echo done > {{out}}/x", makes=["x"])
    plan = write_plan(tmp_path / "plan.yaml", {"slow": waits})
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs these tests by nohup has it ignored
        arguments = [sys.executable, "-c", ENTRY, "--root", str(root), "run", str(plan), "--wait"]
        os.execve(sys.executable, arguments, environment())
    wait_until(lambda: root.exists() and (root / ".holdfast/homes/slow").is_symlink() and processes_of(root))
    wait_until(lambda: status(root, "slow")["state"] == "running")
    os.killpg(pid, signal.SIGHUP)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert status(root, "slow")["state"] == "running"
    go.touch()
    wait_until(lambda: status(root, "slow")["state"] == "complete")


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_stages_run_at_once_than_were_allowed(limit: int, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    stages = {f"s{i}": python(NOTES, str(evidence), str(i)) for i in range(5)}
    plan = write_plan(tmp_path / "plan.yaml", stages)
    hold(tmp_path / "root", "run", str(plan), "--wait", "--max-parallel", str(limit), code=0)
    running = most = 0
    for line in evidence.read_text().splitlines():
        running += 1 if line.startswith("start") else -1
        most = max(most, running)
    assert most == limit


def test_stages_run_after_their_inputs(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    stages = {
        "last": {**python(NOTES, str(evidence), "last"), "inputs": {"a": "left", "b": "right"}},
        "left": {**python(NOTES, str(evidence), "left"), "inputs": {"x": "first"}},
        "right": {**python(NOTES, str(evidence), "right"), "inputs": {"x": "first"}},
        "first": python(NOTES, str(evidence), "first"),
    }
    plan = write_plan(tmp_path / "plan.yaml", stages)
    hold(tmp_path / "root", "run", str(plan), "--wait", "--max-parallel", "4", code=0)
    order = evidence.read_text().splitlines()
    assert order[:2] == ["start first", "end first"]
    assert order[-2:] == ["start last", "end last"]


def test_stage_behind_a_failed_one_is_owed_and_says_for_whom_it_waits(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stages = {"fails": shell("echo 'ValueError: no data'; exit 4"), "behind": shell("true")}
    stages["behind"]["inputs"] = {"x": "fails"}
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", stages)), "--wait", code=1)
    assert status(root, "fails")["reason"] == "failed once: ValueError: no data (exit code 4)"
    assert status(root, "behind")["reason"] == "not started: its input fails is not complete, and nobody is at it"
    why = hold(root, "why", "fails", code=0).stdout
    assert "| ValueError: no data" in why and f"next: holdfast --root {root} run fails" in why


def test_log_is_followed_until_the_attempt_ends(tmp_path: Path) -> None:
    root = tmp_path / "root"
    script = "for i in 1 2 3; do echo line $i; sleep 0.3; done; printf '\\033[31mred'"
    submit(root, write_plan(tmp_path / "plan.yaml", {"talks": shell(script)}))
    wait_until(lambda: status(root, "talks")["state"] in ("running", "complete"))
    said = start(root, "logs", "-f", "talks").communicate(timeout=30)[0]
    assert said.splitlines() == ["line 1", "line 2", "line 3", "red"]


def test_cancelled_stage_that_waits_is_owed_at_once_and_can_be_submitted_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"runs": shell("sleep 600"), "waits": shell("true")})
    submit(root, plan, grace=1.0)
    wait_until(lambda: status(root, "runs")["state"] == "running")
    assert status(root, "waits")["state"] == "queued"
    hold(root, "cancel", "waits", "--wait")
    assert status(root, "waits")["state"] == "owed"
    assert status(root, "waits")["reason"].startswith("not started: cancelled by ")
    assert submit(root, plan) == ["waits"]
    wait_until(lambda: status(root, "waits")["state"] == "complete")
    hold(root, "cancel", "--all", "--wait")
    wait_until(lambda: not processes_of(root))


def test_deleted_work_stays_deleted_until_it_is_rebuilt(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("echo 1 > {out}/x", makes=["x"])})
    hold(root, "run", str(plan), "--wait", code=0)
    hold(root, "rm", "work", "--yes", "--reason", "too old", code=0)
    assert not (root / "work").exists()
    assert status(root, "work")["state"] == "lost"
    assert status(root, "work")["reason"].endswith(": too old")
    hold(root, "run", str(plan), "--wait", code=3)
    assert not (root / "work").exists()
    hold(root, "run", str(plan), "--wait", "--rebuild", code=0)
    assert (root / "work" / "x").exists()


def test_work_removed_by_hand_is_lost_and_not_done_again_unasked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("echo 1 > {out}/x")})
    hold(root, "run", str(plan), "--wait", code=0)
    (root / "work").rename(tmp_path / "elsewhere")
    assert status(root, "work")["reason"] == "attempt 1 completed it, and work was removed by hand"
    hold(root, "run", str(plan), "--wait", code=3)
    assert len(claims(root, "work")) == 1


def test_name_of_deleted_work_that_went_to_other_work_is_not_taken_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    old = write_plan(tmp_path / "old.yaml", {"work": shell("echo old > {out}/x")})
    new = write_plan(tmp_path / "new.yaml", {"work": shell("echo new > {out}/x")})
    hold(root, "run", str(old), "--wait", code=0)
    hold(root, "rm", "work", "--yes", code=0)
    hold(root, "run", str(new), "--wait", code=0)
    hold(root, "run", str(old), "--wait", "--rebuild", code=2)
    assert (root / "work" / "x").read_text() == "new\n"


def test_rerun_keeps_the_old_result_aside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("date +%N > {out}/x")})
    hold(root, "run", str(plan), "--wait", code=0)
    old = (root / "work" / "x").read_text()
    hold(root, "run", str(plan), "--wait", "--rerun", "work", code=0)
    assert (root / "work" / "x").read_text() != old
    assert [path.read_text() for path in root.glob("work.old-*/x")] == [old]


def test_two_who_rerun_the_same_at_once_set_nothing_fresh_aside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    go = tmp_path / "go"
    go.touch()
    waits = shell(f"until [ -e {go} ]; do sleep 0.1; done; date +%N > {{out}}/x")
    plan = write_plan(tmp_path / "plan.yaml", {"work": waits})
    hold(root, "run", str(plan), "--wait", code=0)
    go.unlink()
    people = [start(root, "run", str(plan), "--rerun", "work") for _ in range(8)]
    for person in people:
        person.communicate(timeout=60)
    go.touch()
    wait_until(lambda: status(root, "work")["state"] == "complete")
    assert len(claims(root, "work")) == 2
    assert len(list(root.glob("work.old-*"))) == 1


def test_input_that_is_rebuilt_makes_what_used_it_stale(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stages = {
        "base": shell("date +%N > {out}/x"),
        "user": {**shell("cp {inputs.b}/x {out}/y"), "inputs": {"b": "base"}},
    }
    plan = write_plan(tmp_path / "plan.yaml", stages)
    hold(root, "run", str(plan), "--wait", code=0)
    hold(root, "run", str(plan), "--wait", "--rerun", "base", code=3)
    assert status(root, "user")["state"] == "stale"
    hold(root, "run", str(plan), "--wait", "--rebuild", code=0)
    assert (root / "user" / "y").read_text() == (root / "base" / "x").read_text()


def test_damaged_input_is_not_consumed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stages = {
        "base": shell("echo 1234 > {out}/x"),
        "user": {**shell("cp {inputs.b}/x {out}/y"), "inputs": {"b": "base"}},
    }
    only = write_plan(tmp_path / "base.yaml", {"base": stages["base"]})
    hold(root, "run", str(only), "--wait", code=0)
    (root / "base" / "x").write_text("1")
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", stages)), "--wait", code=1)
    assert status(root, "user")["reason"] == "failed once: input base is damaged: x: 1 bytes, expected 5"


def test_gc_deletes_what_dead_writers_left_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("echo 1 > {out}/x")})
    hold(root, "run", str(plan), "--wait", code=0)
    for name in (".tmp-0123456789abcdef", ".trash-0123456789abcdef"):
        (root / name).mkdir()
        (root / name / "x").write_text("x")
        os.utime(root / name, (1, 1))
    (root / ".tmp-fedcba9876543210").mkdir()
    assert "would be deleted" in hold(root, "gc", "--dry", code=0).stderr
    assert (root / ".trash-0123456789abcdef").exists()
    hold(root, "gc", code=0)
    assert {path.name for path in root.iterdir()} == {".holdfast", "work", ".tmp-fedcba9876543210"}
    assert status(root, "work")["state"] == "complete"


def test_status_as_json_has_the_form_that_scripts_rely_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    submit(root, write_plan(tmp_path / "plan.yaml", {"work": shell("sleep 600")}), grace=0.5)
    wait_until(lambda: status(root, "work")["state"] == "running")
    found = status(root, "work")
    assert set(found) >= {"key", "name", "kind", "state", "reason", "attempt", "job", "progress", "home"}
    assert (found["name"], found["kind"], found["attempt"], found["progress"]) == ("work", "command", 1, None)
    assert hold(root, "status").returncode == 3
    hold(root, "cancel", "work", "--wait")


def test_exit_codes_tell_done_failed_mistaken_and_owed_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    good = write_plan(tmp_path / "good.yaml", {"good": shell("true")})
    bad = write_plan(tmp_path / "bad.yaml", {"bad": shell("false")})
    assert hold(root, "run", str(good), "--dry").returncode == 0
    assert not root.exists(), "a dry run writes nothing"
    assert hold(root, "run", str(good), "--wait").returncode == 0
    assert hold(root, "run", str(bad), "--wait").returncode == 1
    assert hold(root, "run", "absent.yaml").returncode == 2
    slow = write_plan(tmp_path / "slow.yaml", {"slow": shell("sleep 1")})
    assert hold(root, "run", str(slow)).returncode == 0
    assert hold(root, "status", "slow").returncode == 3
    wait_until(lambda: hold(root, "status", "slow").returncode == 0)


def test_job_whose_submitter_died_before_it_started_is_owed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true")})
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom holdfast.core.store import Store\n"
        "from holdfast.execute.submit import Placement, submit\nfrom holdfast.pipelines import stored\n"
        "class Dies:\n    def start(self, directory, job): os._exit(9)\n"
        "root = Store(Path(sys.argv[1]))\nsubmit(stored.plan_for(sys.argv[2], [], root), root, Dies(), Placement())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(root), str(plan)], env=environment())
    assert done.returncode == 9
    assert status(root, "work")["state"] == "owed"
    hold(root, "run", str(plan), "--wait", code=0)


def test_late_supervisor_of_an_overtaken_job_does_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("echo x >> {out}/x; exit 1")})
    hold(root, "run", str(plan), "--wait", code=1)
    first = claims(root, "work")[0]
    hold(root, "run", str(plan), "--wait", code=1)
    job = root / ".holdfast" / "jobs" / first.job
    late = subprocess.run(
        [sys.executable, str(job / "supervisor.pyz"), str(job), status(root, "work")["key"]],
        capture_output=True,
        text=True,
    )
    assert late.returncode == 4 and "took its place in the queue" in late.stdout
    assert len(claims(root, "work")) == 2


def test_answer_of_status_is_json_while_things_change(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stages = {f"s{i}": shell("sleep 0.1") for i in range(4)}
    for i, stage in enumerate(stages.values()):
        stage["params"]["command"].append(str(i))
    submit(root, write_plan(tmp_path / "plan.yaml", stages), max_parallel=4)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = {each["state"] for each in json.loads(hold(root, "status", "--json").stdout)}
        assert states <= {"queued", "running", "complete"}, states
        if states == {"complete"}:
            return
    raise AssertionError("never complete")
