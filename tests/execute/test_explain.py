"""`why` names what keeps a stage from running and the command to type next, also where a record is damaged."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.runs import claims, hold, is_running, processes_of, python, shell, status, wait_until, write_plan

CHAIN = {
    "base": shell("echo 1 > {out}/x", makes=["x"]),
    "user": {**shell("cat {inputs.b}/x; exit 3"), "inputs": {"b": "base"}},
    "last": {**shell("true"), "inputs": {"b": "user"}},
}
SLEEP = python("import time\nprint('going', flush=True)\ntime.sleep(600)")


def why(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads(hold(root, "why", name, "--json", code=0).stdout))


def test_stage_that_waits_names_its_supplier_and_what_to_type(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", CHAIN)
    hold(root, "run", "plan.yaml", "--wait", "--max-parallel", "1", code=1)
    account = why(root, "last")
    assert "not complete: user is owed: failed once" in account["inputs"]["b"]
    assert account["next"] == [f"holdfast --root {root} why user", f"holdfast --root {root} run PLAN"]
    assert f"\nnext: holdfast --root {root} why user\n      holdfast" in hold(root, "why", "last", code=0).stdout


def test_damaged_input_names_the_command_that_makes_it_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", CHAIN)
    hold(root, "run", "plan.yaml", "--wait", code=1)
    (root / "base" / "x").write_text("torn off")
    account = why(root, "user")
    assert "damaged: x: 8 bytes, expected 2" in account["inputs"]["b"]
    again, itself = account["next"]
    assert again.endswith("run base --rerun base") and itself.endswith("run user")
    hold(root, *again.split()[3:], "--wait", code=0)
    assert (root / "base" / "x").read_text() == "1\n"
    assert why(root, "user")["next"] == [itself]


def test_kill_stands_before_what_was_printed_last(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": shell("echo step 5 of 10; kill -9 $$")})
    hold(root, "run", "plan.yaml", "--wait", code=1)
    reason = status(root, "a")["reason"]
    assert reason.startswith("failed once: killed by SIGKILL") and reason.endswith("; its last line: step 5 of 10")


def test_running_time_of_a_dead_attempt_does_not_go_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": SLEEP})
    hold(root, "run", "plan.yaml", code=0)
    wait_until(lambda: status(root, "a")["state"] == "running" and "going" in claims(root, "a")[0].output.read_text())
    assert why(root, "a")["attempts"][0]["outcome"] == "running"
    (claim,) = claims(root, "a")
    kill_supervisor(claim.owner.pid)
    for path in claim.directory.iterdir():
        os.utime(path, (claim.started + 7, claim.started + 7))
    (told,) = why(root, "a")["attempts"]
    assert (told["outcome"], told["after"]) == ("died", "7 s")
    hold(root, "cancel", "a", "--wait")


def kill_supervisor(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))


def test_damaged_claim_of_finished_work_hides_nothing_and_stops_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": shell("echo said; echo 1 > {out}/x", makes=["x"])})
    hold(root, "run", "plan.yaml", "--wait", code=0)
    claims(root, "a")[0].path.write_text("{")
    (told,) = why(root, "a")["attempts"]
    assert told["outcome"] == "complete" and told["after"] in ("0 s", "1 s", "2 s")
    assert hold(root, "logs", "a", code=0).stdout == "said\n"
    hold(root, "run", "plan.yaml", "--rerun", "a", "--wait", code=0)
    assert [each["attempt"] for each in why(root, "a")["attempts"]] == [1, 2]
    hold(root, "rm", "a", "--yes", code=0)
    assert status(root, "a")["state"] == "lost"


def test_damaged_claim_without_an_end_is_named_and_freed_by_the_person_who_knows(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"a": SLEEP})
    hold(root, "run", "plan.yaml", code=0)
    wait_until(lambda: status(root, "a")["state"] == "running" and "going" in claims(root, "a")[0].output.read_text())
    (claim,) = claims(root, "a")
    claim.path.write_text("{")
    account = why(root, "a")
    assert account["state"] == "running" and "claim is damaged" in account["attempts"][0]["reason"]
    assert account["next"] == [f"holdfast --root {root} cancel --declare-dead a"]
    logs = hold(root, "logs", "a", code=0)
    assert logs.stdout == "going\n" and "claim is damaged" in logs.stderr
    alive = hold(root, "cancel", "--declare-dead", "a", code=2).stderr
    assert "attempt 1 of `a` is alive: process" in alive, "this machine can see it"
    end_all(root, claim.owner.pid)
    hold(root, "cancel", "--declare-dead", "a", code=0)
    assert "declared dead by" in status(root, "a")["reason"]
    assert "1 would be submitted" in hold(root, "run", "plan.yaml", "--dry", code=0).stderr


def end_all(root: Path, supervisor: int) -> None:
    kill_supervisor(supervisor)
    for pid, command in processes_of(root).items():
        if "sleep(600)" in " ".join(command):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any("sleep(600)" in " ".join(command) for command in processes_of(root).values()))
