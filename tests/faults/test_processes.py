"""Programs that misbehave, supervisors that die or sleep, machines that restart: each ends complete or owed, with the
right reason, and the same command goes on.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.runs import (
    claims,
    hold,
    is_running,
    processes_of,
    python,
    shell,
    start,
    status,
    submit,
    wait_until,
    write_plan,
)

IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
    time.sleep(0.01)
"""


def change_claim(root: Path, name: str, **owner: Any) -> None:
    """Make the newest claim say that somebody else made it."""
    path = claims(root, name)[-1].path
    content = json.loads(path.read_text())
    content["owner"].update(owner)
    changed = path.with_name("changed")
    changed.write_text(json.dumps(content))
    changed.replace(path)


def test_cancel_ends_a_program_that_ignores_sigterm_within_the_grace(tmp_path: Path) -> None:
    root = tmp_path / "root"
    submit(root, write_plan(tmp_path / "plan.yaml", {"deaf": python(IGNORES)}), grace=1.0)
    wait_until(lambda: "up" in hold(root, "logs", "deaf").stdout)
    begun = time.monotonic()
    hold(root, "cancel", "deaf", "--wait")
    assert time.monotonic() - begun < 1.0 + 5.0 + 3.0
    assert status(root, "deaf")["state"] == "owed"
    assert status(root, "deaf")["reason"].startswith("cancelled by ")
    assert status(root, "deaf")["reason"].endswith("; it did not end when it was asked to, and was killed")
    wait_until(lambda: not processes_of(root))


def test_what_a_program_leaves_in_the_background_is_ended_and_said(tmp_path: Path) -> None:
    root, pid = tmp_path / "root", tmp_path / "pid"
    stages = {"daemon": python(DAEMON, str(pid)), "liar": python(DAEMON, str(tmp_path / "pid2"))}
    stages["liar"]["params"]["makes"] = ["result"]
    assert hold(root, "run", str(write_plan(tmp_path / "plan.yaml", stages)), "--wait").returncode == 1
    assert status(root, "daemon")["state"] == "complete"
    assert not is_running(int(pid.read_text()))
    reason = status(root, "liar")["reason"]
    assert (
        "exited 0 without its output: result (nothing is there); 1 processes that it left in the background were ended"
        in reason
    )


def test_background_process_without_its_environment_is_ended_too(tmp_path: Path) -> None:
    root, pid = tmp_path / "root", tmp_path / "pid"
    script = (
        f"env -i sh -c 'echo $$ > {pid}; exec sleep 600' >/dev/null 2>&1 & while ! [ -s {pid} ]; do sleep 0.01; done"
    )
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"hides": shell(script)})), "--wait", code=0)
    assert not is_running(int(pid.read_text()))


def test_program_that_ends_well_without_its_output_is_owed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"empty": shell("true > {out}/there", makes=["there", "absent"])})
    hold(root, "run", str(plan), "--wait", code=1)
    assert (
        status(root, "empty")["reason"]
        == "failed once: exited 0 without its output: there is empty, absent (there is: there)"
    )
    hold(root, "run", str(plan), "--wait", code=1)
    assert status(root, "empty")["reason"].startswith("failed twice: ")


def test_program_that_fills_the_disk_fails_with_that_reason_and_is_finished_when_there_is_space(
    small_disk: Path, tmp_path: Path
) -> None:
    root = small_disk / "root"
    fills = python(
        "import os, sys; fd = os.open(sys.argv[1] + '/big', os.O_WRONLY | os.O_CREAT)\n"
        "for _ in range(int(open(sys.argv[2]).read())): os.write(fd, bytes(65536))",
        "{out}",
        str(tmp_path / "blocks"),
    )
    (tmp_path / "blocks").write_text("100")
    plan = write_plan(tmp_path / "plan.yaml", {"fills": fills})
    submit(root, plan)
    reason = wait_until(lambda: (found := status(root, "fills"))["state"] == "owed" and found["reason"])
    assert reason == f"failed once: exit code 1; no space is left on the disk of {root}"
    (root / "fills" / "big").unlink()
    (tmp_path / "blocks").write_text("1")
    hold(root, "run", str(plan), "--wait", code=0)


def test_program_that_reaches_a_file_size_limit_fails_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "root"
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "open(sys.argv[1] + '/big', 'wb', 0).write(bytes(9000)); open(sys.argv[1] + '/big', 'ab', 0).write(b'x')"
    )
    plan = write_plan(tmp_path / "plan.yaml", {"large": python(script, "{out}")})
    hold(root, "run", str(plan), "--wait", code=1)
    assert "File too large" in status(root, "large")["reason"] or "SIGXFSZ" in status(root, "large")["reason"]


def test_thirty_two_who_start_the_same_plan_at_once_get_one_job_and_one_attempt(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"once": shell("sleep 0.3; echo done > {out}/x", makes=["x"])})
    people = [start(root, "run", str(plan)) for _ in range(32)]
    said = [person.communicate(timeout=120)[1] for person in people]
    assert [person.returncode for person in people] == [0] * 32, said
    assert sum("takes 1 of 1 stages" in text for text in said) == 1
    wait_until(lambda: status(root, "once")["state"] == "complete")
    assert len(claims(root, "once")) == 1
    assert len(list(root.glob(".holdfast/jobs/*/job.json"))) == 1


def test_thirty_two_who_start_a_failing_stage_at_once_fail_it_once_each_time(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(
        tmp_path / "plan.yaml", {"fails": shell(f"while ! [ -e {tmp_path}/gate ]; do sleep 0.1; done; exit 1")}
    )
    people = [start(root, "run", str(plan)) for _ in range(32)]
    for person in people:
        person.communicate(timeout=120)
    (tmp_path / "gate").touch()
    wait_until(lambda: status(root, "fails")["state"] == "owed")
    assert len(claims(root, "fails")) == 1


def sleeping(tmp_path: Path, stage: dict[str, Any], name: str = "work", **placement: float) -> tuple[Path, Path]:
    """A stage that is running."""
    root, plan = tmp_path / "root", write_plan(tmp_path / "plan.yaml", {name: stage})
    submit(root, plan, env=None, **placement)
    wait_until(lambda: status(root, name)["state"] == "running")
    wait_until(lambda: claims(root, name)[-1].output.exists())
    return root, plan


def supervisor_of(root: Path, name: str = "work") -> int:
    return claims(root, name)[-1].owner.pid


NOTE = {"kind": "tests.kinds:Note", "params": {"text": "right", "seconds": 3.0}}
ONCE = "[ -e {out}/again ] && exit 0; touch {out}/again; echo $$ > {out}/pid; sleep 600"


def test_stage_of_a_dead_supervisor_is_owed_and_its_living_child_is_ended_first(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, shell(ONCE))
    child = int(wait_until(lambda: (root / "work" / "pid").exists() and (root / "work" / "pid").read_text()))
    os.kill(supervisor_of(root), signal.SIGKILL)
    wait_until(lambda: status(root, "work")["state"] == "owed")
    assert "its process" in status(root, "work")["reason"] and is_running(child)
    hold(root, "run", str(plan), "--wait", code=0)
    assert not is_running(child)
    died, complete = claims(root, "work")
    assert (died.ending() or {})["outcome"] == "died"
    assert wait_until(complete.ending)["outcome"] == "complete"


def test_claim_of_a_reused_pid_is_not_taken_for_its_owner(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, shell(ONCE))
    os.kill(supervisor_of(root), signal.SIGKILL)
    change_claim(root, "work", pid=os.getpid(), start="1")
    assert status(root, "work")["state"] == "owed"
    hold(root, "run", str(plan), "--wait", code=0)


def test_stage_that_ran_when_the_machine_restarted_is_owed(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, shell(ONCE))
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    change_claim(root, "work", boot="another-boot", machine=f"0123456789abcdef@{os.uname().nodename}")
    assert status(root, "work")["state"] == "running", "of another machine nothing is known"
    change_claim(root, "work", machine=machine_of(root))
    assert "was restarted" in status(root, "work")["reason"]
    hold(root, "run", str(plan), "--wait", code=0)


def machine_of(root: Path) -> str:
    from holdfast.core import process

    return process.current().machine


def test_exclusive_stage_of_another_machine_is_never_taken_over(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, shell(ONCE))
    change_claim(root, "work", machine="other@other", host="other")
    assert status(root, "work")["reason"] == "runs on other, which cannot be seen from here"
    assert submit(root, plan, silence=0.5) == []
    assert len(claims(root, "work")) == 1
    change_claim(root, "work", machine=machine_of(root))
    hold(root, "cancel", "work", "--wait")


def test_stage_that_nobody_can_see_is_freed_by_the_word_of_a_person(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, shell(ONCE))
    hold(root, "cancel", "work", "--declare-dead", code=2)
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    change_claim(root, "work", machine="other@other", host="other")
    hold(root, "cancel", "work", "--declare-dead", code=0)
    assert "declared dead by" in status(root, "work")["reason"]
    hold(root, "run", str(plan), "--wait", code=0)


def test_safe_stage_of_another_machine_that_beats_is_left_alone(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, NOTE, heartbeat=0.1)
    change_claim(root, "work", machine="other@other", host="other")
    assert submit(root, plan, silence=20.0) == ["work"]
    wait_until(lambda: status(root, "work")["state"] == "complete")
    assert len(claims(root, "work")) == 1


def test_suspended_owner_of_a_safe_stage_loses_it_and_publishes_nothing_when_it_wakes(tmp_path: Path) -> None:
    root, plan = sleeping(tmp_path, {**NOTE, "params": {"text": "right", "seconds": 1.5}}, heartbeat=0.1)
    old = supervisor_of(root)
    os.kill(old, signal.SIGSTOP)
    change_claim(root, "work", machine="other@other", host="other")
    assert submit(root, plan, heartbeat=0.1, silence=0.7) == ["work"]
    wait_until(lambda: len(claims(root, "work")) == 2)
    os.kill(old, signal.SIGCONT)
    wait_until(lambda: not is_running(old), 10)
    wait_until(lambda: status(root, "work")["state"] == "complete")
    first, second = claims(root, "work")
    assert (first.ending() or {})["outcome"] == "silent"
    assert wait_until(second.ending)["outcome"] == "complete"
    assert json.loads((root / "work" / ".holdfast.json").read_text())["attempt"] == 2


def test_owner_that_was_declared_dead_notices_and_ends_its_program(tmp_path: Path) -> None:
    root, _ = sleeping(tmp_path, shell(ONCE), heartbeat=0.1)
    change_claim(root, "work", machine="other@other", host="other")
    hold(root, "cancel", "work", "--declare-dead", code=0)
    wait_until(lambda: not processes_of(root), 15)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("silent", "service oracle did not answer /health within 1 s, and printed nothing"),
        ("leaves", "service oracle did not start: error: no model to serve (exit code 1)"),
    ],
)
def test_service_that_does_not_come_up_fails_the_stage_with_its_own_words(
    manner: str, reason: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    stage = {"kind": "tests.kinds:Ask", "params": {"manner": manner, "timeout": 1.0}}
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"ask": stage})), "--wait", code=1)
    assert status(root, "ask")["reason"] == f"failed once: {reason}"
    wait_until(lambda: not processes_of(root))


def test_service_that_is_killed_in_the_middle_is_the_reason_that_is_given(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stage = {"kind": "tests.kinds:Ask", "params": {"times": 200}}
    submit(root, write_plan(tmp_path / "plan.yaml", {"ask": stage}))
    servers = wait_until(
        lambda: [pid for pid, command in processes_of(root).items() if any("server.py" in each for each in command)]
    )
    wait_until(lambda: status(root, "ask")["state"] == "running")
    wait_until(lambda: any("run" in command for command in processes_of(root).values()))
    time.sleep(0.5)
    os.kill(servers[0], signal.SIGKILL)
    reason = wait_until(lambda: (found := status(root, "ask"))["state"] == "owed" and found["reason"])
    assert reason == "failed once: service oracle ended while it was needed: killed by SIGKILL"
    wait_until(lambda: not processes_of(root))


def test_signal_to_the_runner_stops_what_runs_and_frees_what_waits(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stages = {"runs": shell("sleep 600"), "waits": shell("true")}
    submit(root, write_plan(tmp_path / "plan.yaml", stages))
    wait_until(lambda: status(root, "runs")["state"] == "running")
    runner = json.loads(next(root.glob(".holdfast/jobs/*/runner.json")).read_text())["owner"]["pid"]
    os.kill(runner, signal.SIGTERM)
    wait_until(lambda: not is_running(runner), 10)
    assert status(root, "runs")["reason"] == "stopped by SIGTERM"
    assert status(root, "waits")["reason"] == "not started: stopped by SIGTERM"
