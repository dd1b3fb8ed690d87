"""A stage is one W&B run, offline and online, whoever is killed, and however long nobody can be reached."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.runs import claims, environment, hold, key_of, processes_of, status, submit, wait_until, write_plan
from tests.trackers.reading import logged, offline_runs, stage
from tests.trackers.wandb_server import Run, WandbServer

from holdfast.trackers.redact import redact
from holdfast.trackers.wandb_run import run_id, script_run_id, unavailable

pytest.importorskip("wandb")
KEY = "0123456789abcdef" * 2 + "secretly"
OFFLINE = {"WANDB_MODE": "offline", "WANDB__DISABLE_STATS": "true", "WANDB_API_KEY": ""}


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


def online(server: WandbServer, **more: str) -> dict[str, str]:
    quick = {"WANDB__DISABLE_STATS": "true"}
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online", **quick, **more}


def only(runs: dict[str, Any]) -> Any:
    (run,) = runs.values()
    return run


def has_reached(home: Path, step: int) -> bool:
    return (home / "metrics.jsonl").exists() and max(logged(home)) >= step


def steps(rows: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for row in rows if "by" in row]


def tracker_of(root: Path) -> int | None:
    """The pid of the tracker beside the stage, once it runs."""
    return next((pid for pid, command in processes_of(root).items() if "holdfast.trackers" in command), None)


def kill_trackers(root: Path) -> None:
    for pid, command in processes_of(root).items():
        if "holdfast.trackers" in command:
            os.kill(pid, signal.SIGKILL)


def run_stage(root: Path, plan: Path, env: dict[str, str]) -> None:
    hold(root, "run", str(plan), "--wait", code=0, env=env)


@pytest.mark.slow
def test_one_run_with_each_step_once_when_the_stage_is_killed_and_resumed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(60, 0.1, "wandb")})
    for moment in (23, 46):
        submit(root, plan, env=OFFLINE)
        wait_until(partial(has_reached, root / "run", moment))
        for pid in processes_of(root):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: status(root, "run")["state"] == "owed")
    run_stage(root, plan, OFFLINE)
    assert [claim.n for claim in claims(root, "run")] == [1, 2, 3]
    runs = offline_runs(root / "run")
    assert list(runs) == [run_id(root, key_of(root, "run"))]
    assert steps(only(runs)) == list(range(1, 61))
    first = {step: values[0] for step, values in logged(root / "run").items()}
    assert {row["step"]: row["by"] for row in only(runs)} == first
    assert any(len(values) > 1 for values in logged(root / "run").values())


@pytest.mark.slow
def test_a_tracker_that_is_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hold(root, "run", str(write_plan(tmp_path / "plan.yaml", {"run": stage(3000, 0.0)})), "--wait", code=0)
    draw = random.Random(int(os.environ.get("HOLDFAST_SEED", "5")))
    command = [sys.executable, "-m", "holdfast.trackers", "sync", "wandb", key_of(root, "run")]
    for _ in range(5):
        feeding = subprocess.Popen(command, env=environment(HOLDFAST_ROOT=str(root), **OFFLINE), stderr=-3)
        time.sleep(draw.uniform(1.5, 3.5))
        feeding.kill()
        feeding.wait()
    hold(root, "track", "run", "--tracker", "wandb", code=0, env=OFFLINE)
    assert steps(only(offline_runs(root / "run"))) == list(range(1, 3001))


@pytest.mark.slow
def test_online_the_run_goes_on_after_kills_of_tracker_and_stage(tmp_path: Path, server: WandbServer) -> None:
    root = tmp_path / "root"
    env = online(server)
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(120, 0.25, "wandb")})
    submit(root, plan, env=env)
    wait_until(lambda: server.runs and len(only(server.runs).lines) > 5, 60)  # W&B sends every 15 s
    kill_trackers(root)
    wait_until(lambda: max(logged(root / "run")) >= 75)
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: status(root, "run")["state"] == "owed")
    run_stage(root, plan, env)
    run: Run = only(server.runs)
    assert steps(run.history()) == list(range(1, 121))
    assert run.display == "run" and run.exit_code == 0
    assert json.loads(run.summary)["by"] == pytest.approx(120.002)
    assert "nothing was missing" in hold(root, "track", "run", code=0, env=env).stdout


@pytest.mark.slow
def test_work_goes_on_while_nobody_can_be_reached_and_the_rest_is_sent_later(
    tmp_path: Path, server: WandbServer
) -> None:
    root = tmp_path / "root"
    env = online(server, WANDB_INIT_TIMEOUT="5")
    plan = write_plan(tmp_path / "plan.yaml", {"run": stage(120, 0.25, "wandb")})
    submit(root, plan, env=env)
    wait_until(lambda: server.runs and len(only(server.runs).lines) > 5, 60)  # W&B sends every 15 s
    server.down()
    wait_until(lambda: status(root, "run")["state"] == "complete", 60)
    assert len(only(server.runs).lines) < 120
    assert len(logged(root / "run")) == 120 and claims(root, "run")[-1].n == 1
    wait_until(lambda: list(root.glob(".holdfast/jobs/*/ended.json")), 60)
    failed = hold(root, "track", "run", code=1, env=env).stderr
    assert "W&B cannot be reached" in failed and "Traceback" not in failed
    server.up()
    hold(root, "track", "run", code=0, env=env)
    assert steps(only(server.runs).history()) == list(range(1, 121))
    hold(root, "track", "run", code=0, env=env)
    assert len(only(server.runs).lines) == 120


REPORTS = """
import os, sys, time
from pathlib import Path
import holdfast, wandb
run = wandb.init()
last = Path(os.environ["HOLDFAST_CHECKPOINTS"], "last")
first = int(last.read_text()) + 1 if last.exists() else 1
for step in range(first, 13):
    run.log({"mine": step, "step": step})
    holdfast.log(step=step, by=step)
    last.write_text(str(step))
    while step == 6 and not os.path.exists(os.environ["MY_GATE"]):
        time.sleep(0.05)
run.finish()
"""


def launch_reporter(root: Path, *flags: str, **env: str) -> None:
    (root.parent / "script.py").write_text(REPORTS)
    gate = {"MY_GATE": str(root.parent / "gate"), "HOLDFAST_GPUS": "", **OFFLINE, **env}
    arguments = ["--executor", "local", "--script", "script.py", "--tracker", "wandb", *flags]
    hold(root, "launch", *arguments, code=0, env=gate)


@pytest.mark.slow
@pytest.mark.parametrize("exported", [{}, {"WANDB_RUN_ID": "mine-alone"}], ids=["ours", "exported"])
def test_the_run_of_a_script_and_that_of_a_tracker_are_two_across_restarts(
    tmp_path: Path, exported: dict[str, str]
) -> None:
    root = tmp_path / "root"
    launch_reporter(root, **exported)
    wait_until(partial(has_reached, root / "script", 6))
    wait_until(lambda: len(offline_runs(root / "script")) == 2)
    for pid in processes_of(root):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: status(root, "script")["state"] == "owed")
    (tmp_path / "gate").touch()
    launch_reporter(root, "--wait", **exported)
    key = key_of(root, "script")
    script = exported.get("WANDB_RUN_ID") or script_run_id(root, key)
    runs = offline_runs(root / "script")
    assert set(runs) == {script, run_id(root, key)}
    assert steps(runs[run_id(root, key)]) == list(range(1, 13)), "each step once, by the tracker"
    assert [row["mine"] for row in runs[script] if "mine" in row][-6:] == list(range(7, 13))
    assert not any("by" in row for row in runs[script]) and not any("mine" in row for row in runs[run_id(root, key)])

    # The tracker has a last look when the attempt is on record.
    wait_until(lambda: list(root.glob(".holdfast/jobs/*/ended.json")))
    launch_reporter(root, "--wait", "--rerun", **exported)
    fresh = set(offline_runs(root / "script"))
    assert fresh == {exported.get("WANDB_RUN_ID") or script_run_id(root, key, 2), run_id(root, key, 2)}


def test_what_was_written_offline_can_be_sent_online_later(tmp_path: Path, server: WandbServer) -> None:
    root = tmp_path / "root"
    run_stage(root, write_plan(tmp_path / "plan.yaml", {"run": stage(10, 0.0, "wandb")}), OFFLINE)
    assert steps(only(offline_runs(root / "run"))) == list(range(1, 11))
    hold(root, "track", "run", code=0, env=online(server))
    assert steps(only(server.runs).history()) == list(range(1, 11))


def test_variables_of_the_user_win_and_the_key_is_in_no_file(tmp_path: Path, server: WandbServer) -> None:
    root = tmp_path / "root"
    script = [
        "sh",
        "-c",
        'echo \'{"step": 1, "name": "by", "value": 2}\' >> "$HOLDFAST_METRICS"',
        "--token",
        "hush-hush",
    ]
    plan = write_plan(
        tmp_path / "plan.yaml", {"run": {"kind": "command", "params": {"command": script}, "trackers": ["wandb"]}}
    )
    env = online(server, WANDB_NAME="mine", WANDB_RUN_ID="my-id", WANDB_DIR=str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    run_stage(root, plan, env)
    assert {name: run.display for name, run in server.runs.items()} == {"my-id": "mine"}
    assert list((tmp_path / "elsewhere" / "wandb").iterdir()) and not (root / "run" / "wandb").exists()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data for data in written)
    assert not any(b"hush-hush" in body or KEY.encode() in body for body in server.bodies)


def test_where_nobody_is_logged_in_the_run_is_written_offline(tmp_path: Path) -> None:
    root = tmp_path / "root"
    env = {"WANDB_API_KEY": "", "NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)}
    run_stage(root, write_plan(tmp_path / "plan.yaml", {"run": stage(3, 0.0, "wandb")}), env)
    assert steps(only(offline_runs(root / "run"))) == [1, 2, 3]


def test_whether_runs_can_be_sent_is_said_in_words(tmp_path: Path) -> None:
    none = {"NETRC": str(tmp_path / "none")}
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert unavailable(none) == "not logged in to W&B"
    assert unavailable({**none, "WANDB_MODE": "offline"}) == ""
    assert unavailable({**none, "WANDB_API_KEY": KEY}) == ""
    assert unavailable({"NETRC": str(tmp_path / "netrc")}) == ""
    assert unavailable({"NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "https://wandb.lab.example"}) != ""
    assert unavailable({"WANDB_MODE": "disabled"}) == "WANDB_MODE is disabled"


def test_secrets_are_not_sent_and_what_only_sounds_like_one_is() -> None:
    told: dict[str, Any] = {
        "lr": 1,
        "max_tokens": 8,
        "eos_token": "<e>",
        "api_key": "a",
        "hf": {"HF_TOKEN": "b"},
        "command": ["x", "--password", "c", "DB_PASSWORD=d", "lr=1"],
    }
    hidden = "(not sent)"
    assert redact(told) == {
        "lr": 1,
        "max_tokens": 8,
        "eos_token": "<e>",
        "api_key": hidden,
        "hf": {"HF_TOKEN": hidden},
        "command": ["x", "--password", hidden, f"DB_PASSWORD={hidden}", "lr=1"],
    }
