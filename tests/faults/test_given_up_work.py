"""What a person gives up, cancels or deletes ends for good, and costs nobody else a result."""

import os
import signal
import time
from pathlib import Path

from tests.runs import claims, hold, processes_of, shell, start, status, submit, wait_until, write_plan

SLOW = "echo $$ > {out}/pid; exec sleep 600"


def orphan(root: Path, plan: Path) -> int:
    """A stage whose supervisor was killed and whose program lives on; returns the program's pid."""
    submit(root, plan)
    written = wait_until(lambda: (root / "work" / "pid").exists() and (root / "work" / "pid").read_text().strip())
    os.kill(claims(root, "work")[-1].owner.pid, signal.SIGKILL)
    wait_until(lambda: "still run" in status(root, "work")["reason"])
    return int(written)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_program_of_deleted_work_does_not_write_into_what_takes_its_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    pid = orphan(root, write_plan(tmp_path / "old.yaml", {"work": shell(SLOW)}))
    hold(root, "rm", "work", "--yes", code=0)
    assert not is_there(pid)
    plan = write_plan(tmp_path / "new.yaml", {"work": shell("echo new > {out}/new", makes=["new"])})
    hold(root, "run", str(plan), "--wait", code=0)
    assert sorted(path.name for path in (root / "work").iterdir()) == [".holdfast.json", "new"]
    assert hold(root, "why", "work", code=0).stdout.startswith("work (command")


def test_cancel_ends_what_a_dead_supervisor_left(tmp_path: Path) -> None:
    root = tmp_path / "root"
    pid = orphan(root, write_plan(tmp_path / "plan.yaml", {"work": shell(SLOW)}))
    hold(root, "cancel", "work", "--wait", code=0)
    assert not is_there(pid) and not processes_of(root)


def test_program_that_leaves_well_because_it_was_told_to_is_not_complete(tmp_path: Path) -> None:
    root = tmp_path / "root"
    script = "touch {out}/up; trap 'echo half > {out}/model; exit 0' TERM; while true; do sleep 0.1; done"
    submit(root, write_plan(tmp_path / "plan.yaml", {"work": shell(script, makes=["model"])}))
    wait_until(lambda: (root / "work" / "up").exists())
    hold(root, "cancel", "work", "--wait", code=0)
    found = wait_until(lambda: status(root, "work")["state"] != "running" and status(root, "work"))
    assert found["state"] == "owed" and found["reason"].startswith("cancelled by")


def test_input_of_running_work_can_neither_be_deleted_nor_done_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    go = tmp_path / "go"
    reader = shell(f"until [ -e {go} ]; do sleep 0.1; done; cat {{inputs.x}}/up > {{out}}/down", makes=["down"])
    plan = write_plan(
        tmp_path / "plan.yaml", {"up": shell("echo up > {out}/up"), "down": {**reader, "inputs": {"x": "up"}}}
    )
    submit(root, plan)
    wait_until(lambda: status(root, "down")["state"] == "running")
    assert "`down` is in flight and reads" in hold(root, "rm", "up", "--yes", code=2).stderr
    assert "`down` is in flight and reads" in hold(root, "run", str(plan), "--rerun", "up", code=2).stderr
    go.touch()
    wait_until(lambda: status(root, "down")["state"] == "complete")


def test_log_of_a_dead_supervisor_ends(tmp_path: Path) -> None:
    root = tmp_path / "root"
    submit(root, write_plan(tmp_path / "plan.yaml", {"work": shell("echo begun; exec sleep 600")}))
    wait_until(lambda: status(root, "work")["state"] == "running")
    following = start(root, "logs", "-f", "work")
    time.sleep(0.5)
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    assert "begun" in following.communicate(timeout=30)[0]


def test_dry_run_counts_what_would_be_done_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true")})
    hold(root, "run", str(plan), "--wait", code=0)
    assert "dry run: 1 would be submitted" in hold(root, "run", str(plan), "--dry", "--rerun", "work", code=0).stderr
    assert "has no `wrok`" in hold(root, "run", str(plan), "--dry", "--rerun", "wrok", code=2).stderr
    hold(root, "rm", "work", "--yes", code=0)
    assert "--rebuild takes them" in hold(root, "run", str(plan), code=0).stderr


def test_count_that_would_wait_for_ever_is_refused(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true")})
    assert "0 is not 1 or more" in hold(tmp_path / "root", "run", str(plan), "--max-parallel", "0", code=2).stderr


def test_files_that_only_look_like_ours_are_sealed_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made = "touch {out}/.tmp-mine {out}/.trash-mine {out}/foo.bad-1.txt; touch -d '2 days ago' {out}/.t*"
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"work": shell(made)})), "--wait", code=0)
    hold(root, "gc", code=0)
    manifest = (root / "work" / ".holdfast.json").read_text()
    for name in (".tmp-mine", ".trash-mine", "foo.bad-1.txt"):
        assert (root / "work" / name).exists() and name in manifest
