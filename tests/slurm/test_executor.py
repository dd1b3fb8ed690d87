"""Plans on a real SLURM: they run, wait for each other, and come through what a cluster does to jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runs import claims, hold, python, shell, start, wait_until, write_plan
from tests.slurm.cluster import Cluster

SECONDS = 90.0
COUNTS = """
import json, os, sys, time
out, target, manner = os.environ["HOLDFAST_OUT"], int(sys.argv[1]), sys.argv[2]
state, stop = os.path.join(out, "state"), os.path.join(os.environ["HOLDFAST_RECORD"], "stop")
n = int(open(state).read()) if os.path.exists(state) else 0
while n < target:
    time.sleep(0.5)
    n += 1
    open(state + ".new", "w").write(str(n))
    os.replace(state + ".new", state)
    with open(os.environ["HOLDFAST_METRICS"], "a") as metrics:
        metrics.write(json.dumps({"step": n, "name": "n", "value": n}) + "\\n")
    if manner == "heeds" and os.path.exists(stop):
        sys.exit(3)
open(os.path.join(out, "done"), "w").write("yes")
"""


class Site:
    """A root on the cluster, and what one types there."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        self.directory = directory
        self.cluster = cluster
        self.root = directory / "root"
        (directory / "holdfast.yaml").write_text("slurm: {executor: slurm, poll_seconds: 0.5}\n")

    def run(self, stages: dict[str, Any], *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        plan = write_plan(self.directory / "plan.yaml", stages)
        return self.type("run", str(plan), *arguments, code=code)

    def type(self, *arguments: str, code: int | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        return hold(self.root, *arguments, code=code, env={**self.cluster.environment, **changes})

    def standing(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self.type("status", name, "--json").stdout)
        return dict(found)

    def wait(self, name: str, state: str, seconds: float = SECONDS) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def reached() -> bool:
            seen[:] = [self.standing(name)]
            return bool(seen[0]["state"] == state)

        try:
            wait_until(reached, seconds)
        except AssertionError:
            raise AssertionError(f"not {state} within {seconds} s: {self.type('why', name).stdout}") from None
        return seen[0]

    def job_id(self, name: str) -> str:
        """SLURM's name for the job of a stage, as the newest attempt wrote it down."""
        return claims(self.root, name)[-1].allocation

    def outcomes(self, name: str) -> list[str]:
        """How each attempt ended; the exit record of the newest comes moments after what it published."""
        wait_until(lambda: claims(self.root, name)[-1].ending())
        return [str((claim.ending() or {}).get("outcome")) for claim in claims(self.root, name)]


@pytest.fixture
def site(tmp_path: Path, cluster: Cluster) -> Site:
    return Site(tmp_path, cluster)


def counts(target: int, manner: str = "heeds") -> dict[str, Any]:
    return python(COUNTS, str(target), manner, makes=["done"])


def test_plan_runs_in_order_and_to_the_end(site: Site) -> None:
    stages: dict[str, Any] = {f"point-{n}": shell(f"echo {n} > {{out}}/x", makes=["x"]) for n in range(3)}
    for n in range(3):
        stages[f"after-{n}"] = {**shell("cat {inputs.p}/x > {out}/y", makes=["y"]), "inputs": {"p": f"point-{n}"}}
    both = shell("cat {inputs.a}/y {inputs.b}/y > {out}/z", makes=["z"])
    stages["both"] = {**both, "inputs": {"a": "after-0", "b": "after-2"}}
    site.run(stages, "--wait")
    assert (site.root / "both" / "z").read_text() == "0\n2\n"


def test_no_more_points_run_at_once_than_the_throttle_allows(site: Site) -> None:
    script = "echo start >> ../evidence; sleep 0.5; echo end >> ../evidence"
    stages = {f"p{n}": shell(f"cd {{out}}; {script}; echo {n} > x") for n in range(6)}
    site.run(stages, "--wait", "--max-parallel", "2")
    running = most = 0
    for line in (site.root / "evidence").read_text().splitlines():
        running += 1 if line == "start" else -1
        most = max(most, running)
    assert most == 2


def test_stage_behind_a_failed_one_never_starts_and_says_for_whom_it_waits(site: Site) -> None:
    stages = {"fails": shell("echo 'ValueError: no data'; exit 4"), "behind": shell("true"), "beside": shell("true")}
    stages["behind"]["inputs"] = {"x": "fails"}
    site.run(stages, "--wait", code=1)
    assert site.standing("fails")["reason"] == "failed once: ValueError: no data (exit code 4)"
    assert site.standing("behind")["reason"] == "never started; waits for fails"
    assert site.standing("beside")["state"] == "complete"
    assert claims(site.root, "behind") == []


def test_stage_waits_for_one_that_an_earlier_submission_is_at(site: Site) -> None:
    stages = {"first": shell("sleep 3; echo 1 > {out}/x", makes=["x"])}
    site.run(stages)
    second = {**shell("cat {inputs.x}/x > {out}/y", makes=["y"]), "inputs": {"x": "first"}}
    site.run({**stages, "second": second}, "--wait")
    assert (site.root / "second" / "y").read_text() == "1\n"
    assert site.outcomes("second") == ["complete"]


def test_job_that_ends_before_anything_of_ours_begins_is_the_reason_and_why_shows_its_words(site: Site) -> None:
    stages = {"one": shell("true"), "p0": shell("echo 0"), "p1": shell("echo 1")}
    site.run(stages, "--wait", "--setup", "echo 'module: no such module: cuda' >&2; exit 7", code=3)
    for name in stages:
        reason = site.standing(name)["reason"]
        assert reason.startswith("never started: SLURM job ") and reason.endswith(" is FAILED")
        assert "| module: no such module: cuda\n" in site.type("why", name, code=0).stdout
    site.run(stages, "--wait")


ODD = 'it\'s a $HOME %j%A `id` "x" #1, ü;~'


def test_root_of_any_name_is_submitted_to_or_refused(site: Site) -> None:
    here = site.directory
    site.directory = here / ODD
    site.root = site.directory / "root"
    site.directory.mkdir()
    site.run({f"p{n}": shell(f'echo {n} > "$HOLDFAST_OUT/x"', makes=["x"]) for n in range(2)}, "--wait")
    assert len(list(site.root.glob(".holdfast/jobs/*/slurm-*_[01].log"))) == 2
    site.root = here / "back\\slash" / "root"
    site.root.parent.mkdir()
    told = site.run({"work": shell("true")}, "--executor", "slurm", code=2).stderr
    assert "has a backslash" in told and "never" not in site.standing("work")["reason"]


NASTY = ["two words", "it's", '"quoted"', "$HOME", "`id`", "a,b", "#c", "line\nbreak", "ü→", "", "*", "\\n", "%j", "-x"]


def test_values_arrive_as_they_were_written(site: Site) -> None:
    script = "import json, os, sys; json.dump(sys.argv[1:], open(os.environ['HOLDFAST_OUT'] + '/arguments', 'w'))"
    site.run({"nasty": python(script, *NASTY)}, "--wait")
    assert json.loads((site.root / "nasty" / "arguments").read_text()) == NASTY


def test_forwarded_variable_arrives_and_no_other_secret_does(site: Site) -> None:
    write_plan(site.directory / "plan.yaml", {"env": shell("env > {out}/variables")})
    hold(
        site.root,
        *("run", str(site.directory / "plan.yaml"), "--wait", "--env", "MY_TOKEN"),
        code=0,
        env={**site.cluster.environment, "MY_TOKEN": "forward,me\nplease", "OTHER_TOKEN": "keep me"},
    )
    arrived = (site.root / "env" / "variables").read_text()
    assert "MY_TOKEN=forward,me\nplease\n" in arrived
    assert "OTHER_TOKEN" not in arrived


def test_gpus_are_those_that_slurm_gave(site: Site) -> None:
    stages = {f"g{n}": shell("echo $CUDA_VISIBLE_DEVICES > {out}/x; sleep 1 #" + str(n)) for n in range(3)}
    site.run(stages, "--wait", "--gpus", "4")
    assert {(site.root / name / "x").read_text().count(",") for name in stages} == {3}


def test_cancelled_stage_saves_and_is_owed_and_its_neighbour_goes_on(site: Site) -> None:
    site.run({"one": counts(1000), "two": counts(6)})
    site.wait("one", "running")
    site.type("cancel", "one", "--wait")
    standing = site.wait("one", "owed")
    assert "cancelled by" in standing["reason"]
    assert (site.root / "one" / "state").exists()
    site.wait("two", "complete")
    assert site.outcomes("one") == ["cancelled"]


def test_job_that_was_ended_with_scancel_is_owed_and_the_same_command_goes_on(site: Site) -> None:
    stages = {"work": counts(8)}
    site.run(stages)
    site.wait("work", "running")
    wait_until(lambda: (site.root / "work" / "state").exists())
    site.cluster.run("scancel", site.job_id("work"))
    site.wait("work", "owed")
    site.run(stages, "--wait")
    assert site.outcomes("work") == ["cancelled", "complete"]


def test_requeued_job_goes_on_and_its_dependent_waits_for_it(site: Site) -> None:
    after = {**shell("cat {inputs.w}/state > {out}/x", makes=["x"]), "inputs": {"w": "work"}}
    site.run({"work": counts(8), "after": after})
    wait_until(lambda: (site.root / "work" / "state").exists(), SECONDS)
    site.cluster.run("scontrol", "requeue", site.job_id("work"))
    assert "to go on" in site.wait("work", "queued")["reason"]
    assert site.standing("after")["state"] == "queued"
    site.wait("after", "complete")
    assert site.outcomes("work")[-1] == "complete"
    assert len(claims(site.root, "work")) == 2
    assert (site.root / "after" / "x").read_text() == "8"


def test_preempted_job_goes_on_by_itself(site: Site) -> None:
    site.run({"work": counts(8)}, "--sbatch-arg=--nodelist=n2", "--sbatch-arg=--exclusive")
    wait_until(lambda: (site.root / "work" / "state").exists(), SECONDS)
    urgent = ["--nodelist=n2", "--exclusive", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1"]
    site.cluster.run("sbatch", *urgent)
    site.wait("work", "complete")
    assert len(claims(site.root, "work")) == 2


def test_job_of_a_node_that_went_down_goes_on_elsewhere(site: Site) -> None:
    site.run({"work": counts(8)}, "--sbatch-arg=--nodelist=n3")
    wait_until(lambda: (site.root / "work" / "state").exists(), SECONDS)
    site.cluster.down("n3")
    try:
        assert site.wait("work", "queued")["attempt"] == 1
    finally:
        site.cluster.resume("n3")
    site.wait("work", "complete")
    assert len(claims(site.root, "work")) == 2


def test_work_survives_killed_daemons(site: Site) -> None:
    site.run({"work": counts(12)}, "--sbatch-arg=--nodelist=n4")
    wait_until(lambda: (site.root / "work" / "state").exists(), SECONDS)
    site.cluster.kill_slurmd("n4")
    site.cluster.stop_controller()
    try:
        assert site.standing("work")["state"] == "running"
        site.type("run", str(site.directory / "plan.yaml"))
    finally:
        site.cluster.start_controller()
        site.cluster.start_slurmd("n4")
    site.wait("work", "complete")
    assert site.outcomes("work") == ["complete"]


def test_submitter_that_is_killed_at_any_moment_neither_loses_nor_doubles_work(site: Site) -> None:
    stages = {f"p{n}": shell(f"echo {n} >> {{out}}/x") for n in range(5)}
    plan = write_plan(site.directory / "plan.yaml", stages)
    for delay in (0.1, 0.2, 0.3, 0.4):
        person = start(site.root, "run", str(plan), **site.cluster.environment)
        try:
            person.wait(delay)
        except subprocess.TimeoutExpired:
            person.kill()
        person.communicate()
    site.type("run", str(plan), "--wait", code=0)
    for n in range(5):
        assert (site.root / f"p{n}" / "x").read_text() == f"{n}\n"
        assert site.outcomes(f"p{n}") == ["complete"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_time_limit_is_worked_across_with_and_without_a_handler_and_not_for_ever(site: Site) -> None:
    """Side by side, since limits are whole minutes: one saves when asked, one is deaf, one makes no progress, and one
    dies of what asks it to save.
    """
    stages = {"heeds": counts(120), "deaf": counts(120, "deaf"), "hung": shell("sleep 600; true")}
    stages["after"] = {**shell("cat {inputs.w}/state > {out}/x", makes=["x"]), "inputs": {"w": "heeds"}}
    site.run(stages, "--time", "1")
    (site.directory / "saves.yaml").write_text("name: mine\nstop_signal: USR1\n")
    (site.directory / "dies.py").write_text("import time; time.sleep(600)")
    own = ["--script", "dies.py", "--profile", "saves.yaml", "--account", "team", "--container", "none"]
    site.type("launch", *own, "--time", "1", code=0)
    forbidden = {"forbidden": counts(60)}
    site.run(forbidden, "--time", "1", "--sbatch-arg=--no-requeue")
    assert "could not go on by itself" in site.wait("forbidden", "owed", 200)["reason"]
    site.run(forbidden)
    site.wait("forbidden", "complete", 200)
    site.wait("after", "complete", 500)
    site.wait("deaf", "complete", 500)
    assert (site.root / "after" / "x").read_text() == "120"
    for name in ("heeds", "deaf"):
        outcomes = site.outcomes(name)
        assert outcomes[-1] == "complete" and set(outcomes[:-1]) == {"stopped"} and len(outcomes) > 1
    reason = site.wait("hung", "owed", 500)["reason"]
    assert reason == "stopped before its time limit; not continued: 3 attempts in a row without progress"
    assert site.outcomes("hung") == ["stopped"] * 3
    died = "stopped before its time limit; SIGUSR1, on which its profile says that it saves, ended it at once"
    assert site.wait("dies", "owed", 500)["reason"] == f"{died}; not continued: 3 attempts in a row without progress"


GLOO = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
path = os.path.join(os.environ["HOLDFAST_OUT"], f"rank{dist.get_rank()}")
open(path, "w").write(f"{os.environ['SLURMD_NODENAME']} {total.item():.0f} of {dist.get_world_size()}")
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive the group, and abort an interpreter that ends in order
"""


@pytest.mark.train
@pytest.mark.slow
def test_torchrun_joins_the_processes_of_two_nodes(site: Site) -> None:
    (site.directory / "gloo.py").write_text(GLOO)
    stage = {"kind": "command", "params": {"command": [sys.executable, "gloo.py"], "makes": ["rank0", "rank3"]}}
    site.run({"both": stage}, "--wait", "--nodes", "2", "--gpus", "2", "--launcher", "torchrun")
    said = [(site.root / "both" / f"rank{n}").read_text() for n in range(4)]
    assert {each.split(" ", 1)[1] for each in said} == {"10 of 4"}
    assert len({each.split()[0] for each in said}) == 2


RAY = """
import os, pathlib, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
@ray.remote(num_gpus=2)
def where(): return os.environ["SLURMD_NODENAME"]
nodes = sorted(ray.get([where.remote(), where.remote()]))
files = [path for path in pathlib.Path(os.environ["HOLDFAST_ROOT"]).rglob("*") if path.is_file()]
assert files and not [path for path in files if os.environ["RAY_AUTH_TOKEN"].encode() in path.read_bytes()]
open(os.path.join(os.environ["HOLDFAST_OUT"], "nodes"), "w").write(" ".join(nodes))
"""
# Two nodes share one small machine: no worker before there is work for it, and 100 MB for objects.
SMALL_RAY = {"RAY_enable_worker_prestart": "0", "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "100000000"}


@pytest.mark.slow
def test_command_is_run_beside_a_ray_over_two_nodes(site: Site) -> None:
    """Also where the home has a token, which `ray start` would take and nothing else. `HOLDFAST_RAY_PYTHON` is an
    interpreter that has Ray, where ours has not.
    """
    (site.directory / "home" / ".ray").mkdir(parents=True)
    (site.directory / "home" / ".ray" / "auth_token").write_text("of another Ray")
    (site.directory / "use_ray.py").write_text(RAY)
    command = [os.environ.get("HOLDFAST_RAY_PYTHON", sys.executable), "use_ray.py"]
    stage = {"kind": "command", "params": {"command": command, "makes": ["nodes"]}}
    forwarded = [word for name in SMALL_RAY for word in ("--env", name)]
    plan = str(write_plan(site.directory / "plan.yaml", {"ray": stage}))
    typed = ["run", plan, "--wait", "--nodes", "2", "--gpus", "2", "--launcher", "ray", *forwarded]
    site.type(*typed, code=0, HOME=str(site.directory / "home"), **SMALL_RAY)
    assert len(set((site.root / "ray" / "nodes").read_text().split())) == 2


HALF_A_RAY = """#!/bin/sh
case "$*" in
    status*) echo " 1 node_of_the_head" ;;
    *--head*) exec sleep 60 ;;
    *) exit 1 ;;
esac
"""


def test_ray_that_does_not_start_is_the_reason_and_not_what_srun_says_of_its_end(site: Site) -> None:
    programs = site.directory / "bin"
    programs.mkdir()
    (programs / "ray").write_text(HALF_A_RAY)
    (programs / "ray").chmod(0o755)
    stage = {"kind": "command", "params": {"command": [str(programs / "train"), "x"]}}
    site.run({"work": stage}, "--wait", "--nodes", "2", "--launcher", "ray", code=1)
    assert "error: ray: a node ended before all had joined" in site.standing("work")["reason"]
