"""What a launch must never do: lose finished points, call complete what never ran, let a line of metrics end work."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.launches import launch, write_echo
from tests.runs import hold, python, status, wait_until, write_plan

from holdfast.pipelines.sweep_results import curves

SWEEP = "optim.lr: [1, 2]\n"
ODD_LINES = [
    '{"step": Infinity, "name": "r", "value": 1}',
    '{"step": 1, "name": "r", "value": ' + "9" * 400 + "}",
    '{"step": 1, "name": "r", "value": 1, "attempt": 1e999}',
    '{"step": 1, "name": "\\ud800", "value": 1}',
    '{"step": 1, "name": "a\\u001b[31m", "value": 1}',
    "[" * 100_000,
]


def test_points_of_a_sweep_never_lie_inside_the_home_of_a_job(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "echo_sweep.py").write_text((tmp_path / "echo.py").read_text())
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    sweep = ["--script", "echo.py", "--config", "config.yaml", "--sweep", "sweep.yaml"]
    launch(root, "--script", "echo_sweep.py")
    said = hold(root, "launch", "--executor", "local", *sweep, code=2).stderr
    assert "which is the home of a job" in said and "hint: give it another name: --jobname NAME" in said
    launch(root, *sweep, "--jobname", "mine")
    assert (
        "is a sweep"
        in hold(root, "launch", "--executor", "local", "--script", "echo.py", "--jobname", "mine_sweep", code=2).stderr
    )


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: line[:40])
def test_odd_line_of_metrics_is_passed_over_and_ends_nothing(line: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    script = (
        "import os, sys, time; open(os.environ['HOLDFAST_METRICS'], 'a').write(sys.argv[1] + '\\n'); time.sleep(1.5)"
    )
    plan = write_plan(tmp_path / "plan.yaml", {"work": python(script, line)})
    hold(root, "run", str(plan), "--wait", code=0)
    assert all(name.isprintable() for name in curves(root / "work" / "metrics.jsonl"))


def test_lines_without_an_attempt_that_begin_again_replace_what_was_there(tmp_path: Path) -> None:
    steps = [*((step, 100 * step) for step in range(1, 9)), *((step, step) for step in range(5, 11))]
    lines = [json.dumps({"step": step, "name": "reward", "value": value}) for step, value in steps]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert max(curves(tmp_path / "metrics.jsonl")["reward"], key=lambda entry: entry[1]) == (4, 400.0)


def test_what_cannot_be_read_and_never_ran_is_not_complete(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "work").symlink_to("work")
    plan = write_plan(tmp_path / "plan.yaml", {"work": python("print(1)")})
    assert "files lie that holdfast did not make" in hold(root, "run", str(plan), "--wait", code=2).stderr


def test_fresh_results_that_are_asked_for_in_the_same_second_are_as_many(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    for _ in range(3):
        hold(root, "launch", "--executor", "local", "--script", "echo.py", "--new", code=0)
    assert len(json.loads(hold(root, "status", "--json").stdout)) == 3


def test_snapshot_holds_the_repository_and_not_the_root_in_it(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    for command in (["init", "-q"], ["add", "echo.py"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    for value in range(3):
        launch(root, "--script", "echo.py", "--snapshot", f"+x={value}")
    assert len(list((root / ".holdfast" / "snapshots").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--interpreter", "'unbalanced"], "No closing quotation"),
        (["--interpreter", " "], "it names no program"),
        (["--tracker", "nope"], "nope"),
        (["--lr", "0.1"], "hint: what is the script's stands behind --: -- --lr"),
    ],
)
def test_slip_of_the_fingers_is_explained(arguments: list[str], told: str, tmp_path: Path) -> None:
    said = hold(write_echo(tmp_path), "launch", "--executor", "local", "--script", "echo.py", *arguments, code=2).stderr
    assert told in said and "hint: " in said and "Traceback" not in said


@pytest.mark.parametrize("root", ["~nobody-of-this-name", "loop"])
def test_impossible_root_is_explained(root: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    write_echo(tmp_path)
    said = hold(tmp_path / "x", "--root", root, "launch", "--executor", "local", "--script", "echo.py", code=2).stderr
    assert "error: " in said and "hint: " in said and "Traceback" not in said


@pytest.mark.parametrize("section", ["max_parallel: -1", "gpus: -3", "poll_seconds: -1", "nodes: 0"])
def test_saved_number_that_cannot_be_is_refused(section: str, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "holdfast.yaml").write_text(f"slurm: {{{section}}}\n")
    assert section.partition(":")[0] in hold(root, "launch", "--script", "echo.py", code=2).stderr


def test_signs_of_life_are_as_often_as_the_saved_config_says(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "holdfast.yaml").write_text("slurm: {heartbeat: 0.5, silence: 7}\n")
    hold(root, "launch", "--executor", "local", "--script", "echo.py", "--wait", code=0)
    (job,) = [json.loads(path.read_text()) for path in root.glob(".holdfast/jobs/*/job.json")]
    assert (job["heartbeat"], job["silence"]) == (0.5, 7)


def test_gpu_that_is_named_twice_is_one(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    command = ["launch", "--executor", "local", "--script", "echo.py", "--gpus", "2"]
    assert "this machine has 1" in hold(root, *command, code=2, env={"HOLDFAST_GPUS": "0, 0"}).stderr


def test_json_of_a_sweep_over_what_is_no_number_is_json(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "sweep.yaml").write_text("optim.lr: [.nan, .inf, 1]\n")
    sweep = ["--script", "echo.py", "--config", "config.yaml", "--sweep", "sweep.yaml"]

    def strictly(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    strictly(hold(root, "launch", "--executor", "local", "--dry", "--json", *sweep, code=0).stdout)
    launch(root, *sweep)
    strictly(hold(root, "status", "echo_sweep", "--json", code=0).stdout)
    for place in ("nowhere/x.png", ".", "x.svg"):
        assert "hint: " in hold(root, "status", "echo_sweep", "--figure", place, code=2).stderr


def test_what_a_program_leaves_in_the_background_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    leaves = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"work": python(leaves)})), "--wait", code=0)
    assert status(root, "work")["state"] == "complete"
    assert "1 processes that it left in the background were ended" in hold(root, "why", "work").stdout


def test_points_that_failed_say_why_and_what_a_cancel_did_is_told(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "echo.py").write_text("raise SystemExit('boom')")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    launch(root, "--script", "echo.py", "--config", "config.yaml", "--sweep", "sweep.yaml", code=1)
    assert hold(root, "status", "echo_sweep", code=1).stdout.count("failed once: boom") == 2
    assert "nothing of it is in flight" in hold(root, "cancel", "echo_sweep", code=0).stderr


def test_work_whose_config_changed_while_it_waited_is_to_be_launched_again(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    waits = f"import time, os\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
    (tmp_path / "echo.py").write_text(waits)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    sweep = ["--script", "echo.py", "--config", "config.yaml", "--sweep", "sweep.yaml"]
    hold(root, "launch", "--executor", "local", *sweep, code=0)
    wait_until(lambda: status(root, "echo_sweep/lr-1")["state"] == "running")
    with open(tmp_path / "config.yaml", "a") as config:
        config.write("\n# a word\n")
    (tmp_path / "go").touch()
    wait_until(lambda: "launch it again" in status(root, "echo_sweep/lr-2")["reason"])
    assert "next: the command that launched it" in hold(root, "why", "echo_sweep/lr-2", code=0).stdout
