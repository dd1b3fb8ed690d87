"""Whose a name is: work that began keeps it; work that was planned and never began makes way for its next version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.runs import hold, shell, status, wait_until, write_plan


def plan_behind_a_busy_one(directory: Path, *scripts: str) -> Path:
    """A stage that keeps the only place busy until `go` is there, and others that wait for that place."""
    busy = shell(f"until [ -e {directory}/go ]; do sleep 0.05; done; echo > {{out}}/x")
    stages = {"busy": busy, **{f"work{n}": shell(script, makes=["x"]) for n, script in enumerate(scripts)}}
    return write_plan(directory / "plan.yaml", stages)


def test_stage_that_never_began_can_be_edited(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo old > {out}/x")), code=0)
    hold(root, "cancel", "work0", "--wait", code=0)
    old = status(root, "work0")["key"]
    (tmp_path / "go").touch()
    hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo new > {out}/x")), "--wait", code=0)
    assert (root / "work0" / "x").read_text() == "new\n"
    listed = json.loads(hold(root, "status", "--json", code=0).stdout)
    assert [each["name"] for each in listed] == ["busy", "work0"] and old not in {each["key"] for each in listed}


def test_older_version_does_not_come_back_under_a_name_that_it_lost(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo old > {out}/x")), code=0)
    hold(root, "cancel", "work0", "--wait", code=0)
    (tmp_path / "go").touch()
    hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo new > {out}/x")), "--wait", code=0)
    for more in ([], ["--dry"]):
        said = hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo old > {out}/x")), *more, code=2).stderr
        assert "`work0` is taken by other work" in said and "hint: " in said
    assert (root / "work0" / "x").read_text() == "new\n"


def test_stage_that_waits_in_a_queue_keeps_its_name(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hold(root, "run", str(plan_behind_a_busy_one(tmp_path, "echo 1 > {out}/x", "echo 2 > {out}/x")), code=0)
    changed = str(plan_behind_a_busy_one(tmp_path, "echo 3 > {out}/x", "echo 4 > {out}/x"))
    for more in ([], ["--dry"]):
        said = hold(root, "run", changed, *more, code=2).stderr
        assert "`work0` is taken by other work" in said and "(and 1 more like it)" in said
    (tmp_path / "go").touch()
    wait_until(lambda: status(root, "work1")["state"] == "complete")
    assert (root / "work0" / "x").read_text() == "1\n"


def test_dry_run_refuses_what_submission_would_refuse(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true")})
    more = ["--gpus", "5", "--executor", "local"]
    for dry in ([], ["--dry"]):
        said = hold(root, "run", str(plan), *more, *dry, code=2, env={"HOLDFAST_GPUS": "0,1"}).stderr
        assert "`work` wants 5 GPUs, and this machine has 2" in said
    (tmp_path / "holdfast.yaml").write_text("slurm: {acount: me}\n")
    assert "did you mean `account`" in hold(root, "run", str(plan), "--dry", code=2).stderr
    assert not root.exists()


def test_dry_run_shows_the_script_for_a_cluster_that_is_not_here(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true")})
    where = ["--executor", "slurm", "--gpus", "4", "--time", "1:30:00", "--account", "me", "--partition", "big"]
    shown = hold(root, "run", str(plan), "--dry", *where, code=0).stdout
    for option in ("--nodes=1", "--gpus-per-node=4", "--time=1:30:00", "--account=me", "--partition=big", "--requeue"):
        assert f"#SBATCH {option}\n" in shown
    json.loads(hold(root, "run", str(plan), "--dry", "--json", *where, code=0).stdout)
    assert not root.exists()


def test_what_was_deleted_on_purpose_is_not_owed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"work": shell("true"), "other": shell("echo 1")})
    hold(root, "run", str(plan), "--wait", code=0)
    hold(root, "rm", "work", "--yes", code=0)
    assert "deleted on purpose" in hold(root, "status", code=0).stdout
    hold(root, "run", str(plan), "--wait", code=3)
