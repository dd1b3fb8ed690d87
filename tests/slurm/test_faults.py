"""A scheduler that misbehaves: nothing is lost, nothing is submitted twice, and no silence is taken for an end."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.launches import write_echo
from tests.runs import hold, key_of, shell, start, wait_until, write_plan
from tests.slurm.fakes import slurm as fakes
from tests.slurm.fakes.slurm import Fake

from holdfast.core import attempt, process
from holdfast.core.store import Store

SECRET = "hunter2-never-on-disk"


class Site:
    """A root beside a pretend SLURM, and what one types there."""

    def __init__(self, directory: Path) -> None:
        self.variables: Mapping[str, str] = fakes.install(directory / "slurm")
        self.fake = Fake(directory / "slurm")
        self.root = directory / "root"
        self.directory = directory
        (directory / "holdfast.yaml").write_text("slurm: {executor: slurm}\n")

    def plan(self, **stages: Any) -> str:
        return str(write_plan(self.directory / "plan.yaml", stages))

    def type(self, *arguments: str, code: int | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return hold(self.root, *arguments, code=code, env={**self.variables, **more})

    def standing(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self.type("status", name, "--json").stdout)
        return dict(found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_submission_says_what_waits_where(site: Site) -> None:
    plan = site.plan(a=shell("true"), b=shell("false"))
    site.type("run", plan, code=0)
    assert site.standing("a")["state"] == "queued"
    assert site.standing("a")["reason"] == "waits in SLURM job 101_0 (Priority)"
    site.type("run", plan, code=0)
    assert len(site.fake.calls("sbatch")) == 1


@pytest.mark.parametrize(("fault", "jobs"), [("timeout", 1), ("lost", 1)])
def test_answer_that_does_not_arrive_makes_neither_none_nor_two(site: Site, fault: str, jobs: int) -> None:
    site.fake.order("sbatch", fault)
    site.type("run", site.plan(a=shell("true")), code=0)
    assert len(site.fake.jobs) == jobs
    assert site.standing("a")["state"] == "queued"


def test_controller_that_is_down_is_an_error_and_never_a_reason_to_run_here(site: Site) -> None:
    site.fake.order("scontrol", "always down")
    said = site.type("run", site.plan(a=shell("true")), "--executor", "auto", code=2).stderr
    assert "error: SLURM cannot be reached: scontrol: " in said and "hint: is the controller up?" in said
    assert not site.root.exists()


@pytest.mark.parametrize("fault", ["down", "timeout", "garbage"])
def test_scheduler_that_cannot_be_asked_says_nothing_of_an_end(site: Site, fault: str) -> None:
    plan = site.plan(a=shell("true"))
    site.type("run", plan, code=0)
    site.fake.order("squeue", f"always {fault}")
    assert site.standing("a")["state"] == "queued"
    assert "of which nothing is known now" in site.standing("a")["reason"]
    site.type("run", plan, code=0)
    assert len(site.fake.jobs) == 1


@pytest.mark.parametrize("state", ["CANCELLED", "NODE_FAIL", "BOOT_FAIL"])
def test_what_the_scheduler_ended_is_owed_again(site: Site, state: str) -> None:
    plan = site.plan(a=shell("true"))
    site.type("run", plan, code=0)
    site.fake.set_all(state=state)
    assert site.standing("a")["state"] == "owed"
    site.type("run", plan, code=0)
    assert site.standing("a")["reason"].startswith("waits in SLURM job 102")


def test_job_that_the_scheduler_forgot_has_ended_with_and_without_accounting(site: Site) -> None:
    site.type("run", site.plan(a=shell("true")), code=0)
    site.fake.jobs = {}
    site.fake.order("sacct", "always disabled")
    assert site.standing("a")["state"] == "owed"
    site.fake.order("sacct")
    (site.fake.directory / "sacct").write_text("101|TIMEOUT\n")
    assert site.standing("a")["state"] == "owed"


def test_state_that_is_new_to_us_is_no_end(site: Site) -> None:
    plan = site.plan(a=shell("true"))
    site.type("run", plan, code=0)
    site.fake.set_all(state="TELEPORTING")
    assert site.standing("a")["state"] == "queued"
    site.type("run", plan, code=0)
    assert len(site.fake.jobs) == 1


def test_one_question_is_asked_however_many_jobs_there_are(site: Site) -> None:
    for number in range(5):
        site.type("run", site.plan(**{f"s{number}": shell(f"echo {number}")}), code=0)
    before = len(site.fake.calls("squeue"))
    site.type("status")
    assert len(site.fake.calls("squeue")) == before + 1


def kill_in_sbatch(site: Site, plan: str, moment: str) -> None:
    """kill -9 the submitter while its sbatch runs: `before` or `after` the scheduler took the job."""
    program = site.fake.directory / "bin" / "sbatch"
    real = program.read_text()
    line = real.splitlines()[1].removeprefix("exec ")
    pause = f"touch {site.fake.directory}/there; sleep 60"
    program.write_text(f"#!/bin/sh\n{pause if moment == 'before' else ''}\n{line}\n{pause}\n")
    person = start(site.root, "run", plan, **site.variables)
    wait_until((site.fake.directory / "there").exists)
    person.send_signal(signal.SIGKILL)
    person.communicate()
    program.write_text(real)


def test_submitter_that_dies_after_sbatch_leaves_a_job_that_is_found(site: Site) -> None:
    plan = site.plan(a=shell("true"), b=shell("false"))
    kill_in_sbatch(site, plan, "after")
    assert site.standing("a")["reason"] == "waits in SLURM job 101_0 (Priority)"
    site.type("run", plan, code=0)
    assert len(site.fake.jobs) == 1


def test_submitter_that_dies_before_sbatch_leaves_work_that_is_owed(site: Site) -> None:
    plan = site.plan(a=shell("true"))
    kill_in_sbatch(site, plan, "before")
    site.fake.order("squeue", "down")
    assert site.standing("a")["state"] == "queued"
    assert site.standing("a")["state"] == "owed"
    site.type("run", plan, code=0)
    assert len(site.fake.jobs) == 1


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("sbatch: error: invalid partition specified: nope", "partitions here: batch|4"),
        ("sbatch: error: Invalid account or account/partition combination specified", "--account"),
        ("sbatch: error: Requested node configuration is not available", "nodes here"),
        ("sbatch: error: Job violates accounting/QOS policy (job submit limit)", "wait until some of your jobs"),
    ],
)
def test_refusal_is_said_in_a_line_with_a_way_out_and_the_work_is_owed(site: Site, said: str, hint: str) -> None:
    site.fake.order("sbatch", f"refuse {said}")
    plan = site.plan(a=shell("true"))
    told = site.type("run", plan, code=2).stderr
    assert told.startswith(f"error: sbatch refused: {said.removeprefix('sbatch: error: ')}\n")
    assert hint in told
    assert site.standing("a")["state"] == "owed"
    assert said.removeprefix("sbatch: error: ") in site.standing("a")["reason"]
    site.type("run", plan, code=0)
    assert site.standing("a")["state"] == "queued"


def test_more_nodes_than_there_are_is_refused_before_anything_waits_for_ever(site: Site) -> None:
    told = site.type("run", site.plan(a=shell("true")), "--nodes", "9", code=2).stderr
    assert "`a` wants 9 nodes, and the largest partition has 4" in told
    assert site.fake.calls("sbatch") == []


def test_second_array_that_is_refused_leaves_the_first_in_the_queue(site: Site) -> None:
    stages = {f"s{number:03d}": shell(f"echo {number}") for number in range(150)}
    site.fake.order("sbatch", "", "refuse sbatch: error: QOSMaxSubmitJobPerUserLimit")
    plan = site.plan(**stages)
    site.type("run", plan, code=2)
    states = [each["state"] for each in json.loads(site.type("status", "--json").stdout)]
    assert (states.count("queued"), states.count("owed")) == (101, 49)
    site.type("run", plan, code=0)
    assert sum(len(job["tasks"]) for job in site.fake.jobs.values()) == 150


def test_cancelled_waiting_stage_is_owed_at_once_and_its_neighbours_stay(site: Site) -> None:
    site.type("run", site.plan(a=shell("true"), b=shell("false")), code=0)
    site.type("cancel", "b", code=0)
    assert site.standing("a")["state"] == "queued"
    assert site.standing("b")["state"] == "owed"
    assert site.standing("b")["reason"].startswith("not started: cancelled by ")
    assert site.fake.calls("scancel") == ["--quiet --state=PENDING 101_1"]


def test_secrets_of_the_submitter_reach_no_file(site: Site) -> None:
    site.type("run", site.plan(a=shell("true")), "--env", "MY_TOKEN", code=0, MY_TOKEN=SECRET, OTHER_TOKEN=SECRET)
    stored = [path for path in site.root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert stored == []


def test_variable_that_is_to_be_forwarded_and_not_set_is_an_error(site: Site) -> None:
    told = site.type("run", site.plan(a=shell("true")), "--env", "MY_TOKEN", code=2).stderr
    assert "to be forwarded, and not set here: MY_TOKEN" in told


@pytest.fixture
def attempt_elsewhere(site: Site) -> Iterator[Site]:
    """A stage that an attempt on another machine is at, restart 1 of its SLURM job."""
    site.type("run", site.plan(a=shell("true")), code=0)
    store = Store(site.root)
    key = key_of(site.root, "a")
    place = attempt.newest(store.queued(key))
    assert place
    owner = process.Identity("elsewhere@node7", "node7", "boot", "pid:[1]", 4711, "99", "somebody")
    attempt.create(store.attempts(key), 1, place.job, owner, allocation="101", restarts=1)
    yield site


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"state": "RUNNING", "restarts": 1}, "running"),
        ({"state": "COMPLETING", "restarts": 1}, "running"),
        ({"state": "RUNNING", "restarts": 2}, "queued"),
        ({"state": "PENDING", "restarts": 2}, "queued"),
        ({"state": "FAILED", "restarts": 1}, "owed"),
    ],
)
def test_attempt_on_a_machine_that_nobody_sees_is_judged_by_the_scheduler(
    attempt_elsewhere: Site, fields: dict[str, Any], state: str
) -> None:
    attempt_elsewhere.fake.set_all(**fields)
    assert attempt_elsewhere.standing("a")["state"] == state


def test_attempt_that_the_scheduler_ended_is_put_on_record_before_the_next(attempt_elsewhere: Site) -> None:
    attempt_elsewhere.fake.set_all(state="NODE_FAIL", restarts=1)
    attempt_elsewhere.type("run", str(attempt_elsewhere.directory / "plan.yaml"), code=0)
    store = Store(attempt_elsewhere.root)
    ending = attempt.read(store.attempts(key_of(attempt_elsewhere.root, "a")), 1).ending()
    assert ending and ending["outcome"] == "died" and "NODE_FAIL" in ending["reason"]


def test_attempt_of_an_earlier_start_of_the_same_job_is_taken_over(tmp_path: Path) -> None:
    owner = process.Identity("elsewhere@node7", "node7", "boot", "pid:[1]", 4711, "99", "somebody")
    attempt.create(tmp_path, 1, "job", owner, allocation="101_3")
    claim = attempt.take(tmp_path, "job", exclusive=True, allocation="101_3", restarts=1)
    assert claim.n == 2
    ending = attempt.read(tmp_path, 1).ending()
    assert ending and ending["reason"] == "the scheduler started 101_3 again"


def test_job_of_somebody_else_that_slurm_hides_is_not_taken_for_ended(site: Site) -> None:
    site.type("run", site.plan(a=shell("true")), code=0)
    (record,) = site.root.glob(".holdfast/jobs/*/slurm.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "user": "somebody", "submitted": time.time() - 3600}))
    site.fake.jobs = {}
    site.fake.order("sacct", "always disabled")
    assert site.standing("a")["state"] == "queued"


def test_stage_that_is_run_on_by_its_name_is_placed_as_it_was(site: Site) -> None:
    write_echo(site.directory)
    where = ["--nodes", "2", "--gpus", "4", "--time", "3:00:00", "--account", "team", "--container", "none"]
    site.fake.order("sbatch", "refuse sbatch: error: Batch job submission failed: Invalid account")
    site.type("launch", "--script", "echo.py", *where, "--partition", "small", code=2)
    assert site.standing("echo")["state"] == "owed"
    shown = site.type("run", "echo", "--dry", "--partition", "big", code=0).stdout
    for option in ("--nodes=2", "--gpus-per-node=4", "--time=3:00:00", "--account=team", "--partition=big"):
        assert f"#SBATCH {option}\n" in shown
    site.type("run", "echo", code=0)
    script = next(site.root.glob(".holdfast/jobs/*/script"))
    assert site.standing("echo")["state"] == "queued" and "--account=team" in script.read_text()


def test_saved_launcher_counts_before_that_of_the_profile_and_after_the_flag(site: Site) -> None:
    write_echo(site.directory)
    (site.directory / "holdfast.yaml").write_text("slurm: {executor: slurm, launcher: torchrun, container: none}\n")
    command = ["launch", "--script", "echo.py", "--account", "team"]
    site.type(*command, "--jobname", "saved", "+a=1", code=0)
    site.type(*command, "--jobname", "flag", "+a=2", "--launcher", "plain", code=0)
    jobs = [json.loads(path.read_text()) for path in site.root.glob(".holdfast/jobs/*/job.json")]
    assert {job["tasks"][0]["name"]: job["launcher"] for job in jobs} == {"saved": "torchrun", "flag": "plain"}


def launch_two(site: Site) -> list[str]:
    """The command that launches a sweep of two points."""
    write_echo(site.directory)
    (site.directory / "sweep.yaml").write_text("script_path: echo.py\nsize: [1, 2]\n")
    return ["launch", "--sweep", "sweep.yaml", "--account", "team", "--container", "none"]


def points(site: Site) -> list[dict[str, Any]]:
    return [dict(each) for each in json.loads(site.type("status", "echo_sweep", "--json").stdout)]


def check_refused(told: str, error: str, hint: str) -> None:
    lines = [line for line in told.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 3 and error in lines[0] and lines[0].startswith("error: "), told
    assert lines[1] == "" and lines[2].startswith("hint: ") and hint in lines[2]


def test_sweep_with_an_account_that_is_refused_is_owed_and_goes_on_by_the_same_command(site: Site) -> None:
    command = launch_two(site)
    refusal = "Batch job submission failed: Invalid account or account/partition combination specified"
    site.fake.order("sbatch", f"refuse sbatch: error: {refusal}")
    check_refused(site.type(*command, code=2).stderr, f"sbatch refused: {refusal}", "--account")
    found = points(site)
    assert [each["point"] for each in found] == [{"size": 1}, {"size": 2}]
    assert {each["state"] for each in found} == {"owed"} and all(refusal in each["reason"] for each in found)
    site.type(*command, code=0)
    assert {each["state"] for each in points(site)} == {"queued"} and len(site.fake.jobs) == 1


def test_launch_without_a_controller_is_refused_and_leaves_nothing(site: Site) -> None:
    command = launch_two(site)
    site.fake.order("scontrol", "always down")
    check_refused(site.type(*command, code=2).stderr, "SLURM cannot be reached: scontrol: ", "is the controller up?")
    assert not site.root.exists()
    site.fake.order("scontrol")
    site.type(*command, code=0)
    assert {each["state"] for each in points(site)} == {"queued"}


def test_controller_that_goes_away_while_a_sweep_is_launched_gets_it_later_and_once(site: Site) -> None:
    command = launch_two(site)
    for program in ("sbatch", "squeue"):
        site.fake.order(program, "always down")
    check_refused(site.type(*command, code=2).stderr, "SLURM cannot be reached", "once the controller answers")
    assert {each["state"] for each in points(site)} == {"queued"}, "nobody knows what arrived"
    for program in ("sbatch", "squeue"):
        site.fake.order(program)
    found = points(site)
    assert {each["state"] for each in found} == {"owed"}
    assert all("was never submitted" in each["reason"] for each in found)
    site.type(*command, code=0)
    assert {each["state"] for each in points(site)} == {"queued"} and len(site.fake.jobs) == 1
