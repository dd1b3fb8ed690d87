"""What makes two launches the same work: never run again by mistake, never resumed from another config's run."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.launches import CONFIG, launch, planned, said, write_echo
from tests.runs import claims, hold, status, wait_until

from holdfast.core import artifact
from holdfast.core.store import Store

SCRIPT = ["--script", "echo.py", "--config", "config.yaml"]


def key(root: Path, *arguments: str) -> str:
    (found,) = planned(root, *SCRIPT, *arguments)
    return str(found["key"])


def write_sweep(directory: Path, **axes: Any) -> None:
    content = {"script_path": "echo.py", "config_path": "config.yaml", **axes}
    (directory / "sweep.yaml").write_text(json.dumps(content))


def test_where_it_runs_and_what_it_is_called_is_not_what_it_is(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    same = [["--nodes", "2"], ["--gpus", "0"], ["--time", "1:0:0"], ["--jobname", "x"], ["--max-parallel", "3"]]
    same += [["cluster.num_nodes=7"], ["logger.wandb.project=q"], ["--interpreter", "python3"], ["model.layers=2"]]
    assert {key(root, *arguments) for arguments in same} == {key(root)}
    other = [["model.layers=3"], ["+seed=1"], ["~optim"], ["--env", "MY_X=1"], ["--new"], ["--", "--flag"]]
    assert len({key(root), *(key(root, *arguments) for arguments in other)}) == len(other) + 1


def test_the_same_content_is_the_same_work_wherever_it_is_written(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "child.yaml").write_text("defaults: config.yaml\n")
    (tmp_path / "changed.yaml").write_text("defaults: config.yaml\nmodel: {layers: 3}\n")
    assert planned(root, "--script", "echo.py", "--config", "child.yaml")[0]["key"] == key(root)
    changed = planned(root, "--script", "echo.py", "--config", "changed.yaml")[0]["key"]
    assert changed == key(root, "model.layers=3") != key(root)


def test_a_swept_key_always_counts(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    write_sweep(tmp_path, **{"cluster.num_nodes": [1, 2], "logger.wandb.project": ["p", "q"]})
    found = planned(root, "--sweep", "sweep.yaml")
    assert len({each["key"] for each in found}) == 4


def test_cells_that_are_the_same_work_are_named_and_run_once(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    write_sweep(tmp_path, **{"optim.lr": ["1e-5", 1e-5, 0.00001], "model.layers": [2]})
    done = launch(root, "--sweep", "sweep.yaml")
    assert "note: lr-1e-5+layers-2 is the same work as lr-1e-5+layers-2: it runs once" in done.stderr
    assert len(json.loads(hold(root, "status", "--json").stdout)) == 2, "a number, and a word that looks like one"


def test_typed_again_nothing_runs_and_a_larger_sweep_runs_the_difference(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    write_sweep(tmp_path, **{"model.layers": [1, 3]})
    launch(root, "--sweep", "sweep.yaml")
    assert "nothing to submit; 2 complete already" in launch(root, "--sweep", "sweep.yaml").stderr
    write_sweep(tmp_path, **{"model.layers": [0, 1, 3]})
    assert "takes 1 of 3 stages" in launch(root, "--sweep", "sweep.yaml").stderr
    names = [each["name"] for each in json.loads(hold(root, "status", "echo_sweep", "--json").stdout)]
    assert sorted(names) == [f"echo_sweep/layers-{layers}" for layers in (0, 1, 3)]


def test_work_that_was_done_under_another_name_is_shown_there(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT)
    done = launch(root, *SCRIPT, "--jobname", "other")
    assert f"note: `other` is the same work as `echo`: it is at {root}/echo" in done.stderr
    assert "nothing to submit" in done.stderr and not (root / "other").exists()


def test_new_makes_a_fresh_result_and_rerun_keeps_the_old_aside(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT)
    launch(root, *SCRIPT, "--new")
    assert len([path for path in root.glob("echo*") if (path / "said.json").exists()]) == 2
    launch(root, *SCRIPT, "--rerun")
    assert len(list(root.glob("echo.old-*"))) == 1 and len(claims(root, "echo")) == 2


def test_finished_work_whose_code_changed_is_reported_and_not_run(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT)
    manifest = artifact.read(root / "echo")
    assert manifest and len(manifest.content["code"]["script"]) == 64
    with open(tmp_path / "echo.py", "a") as script:
        script.write("# better\n")
    done = launch(root, *SCRIPT)
    assert "note: echo is complete, and its script changed since:" in done.stderr
    assert "--rerun does it again" in done.stderr and len(claims(root, "echo")) == 1
    launch(root, *SCRIPT, "--rerun")
    assert "changed since" not in launch(root, *SCRIPT).stderr


def test_a_config_that_is_edited_while_the_work_waits_does_not_run_under_the_old_key(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT, "--", "--fail")
    (tmp_path / "fails.py").write_text("raise SystemExit('no')")
    launch(root, "--script", "fails.py", "--config", "config.yaml", code=1)
    (tmp_path / "config.yaml").write_text(json.dumps({**CONFIG, "model": {"name": "large", "layers": 9}}))
    hold(root, "run", "fails", "--wait", code=1)
    reason = status(root, "fails")["reason"]
    assert "config.yaml changed after this was submitted" in reason and "launch it again" in reason


def test_a_snapshot_runs_the_code_of_the_moment_it_was_launched(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / ".gitignore").write_text("root/\nignored.txt\n")
    (tmp_path / "ignored.txt").write_text("x")
    (tmp_path / "words.py").write_text("WORD = 'committed'\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x")
    (tmp_path / "words.py").write_text("WORD = 'changed'\n")
    (tmp_path / "late.py").write_text(
        "import os, pathlib, time\n"
        "while not pathlib.Path(os.environ['MY_GATE']).exists(): time.sleep(0.05)\n"
        "import words\n"
        "print(words.WORD, os.path.exists('ignored.txt'))\n"
        "pathlib.Path(os.environ['HOLDFAST_OUT'], 'word').write_text(words.WORD)\n"
    )
    gate = tmp_path.parent / f"{tmp_path.name}-gate"
    hold(root, "launch", "--executor", "local", "--snapshot", "--script", "late.py", code=0, env={"MY_GATE": str(gate)})
    (tmp_path / "words.py").write_text("WORD = 'edited later'\n")
    gate.touch()
    wait_until(lambda: status(root, "late")["state"] == "complete")
    assert (root / "late" / "word").read_text() == "changed"
    assert "changed False" in (root / "late" / "logs" / "attempt-001.log").read_text()
    assert len(list((root / ".holdfast" / "snapshots").iterdir())) == 1


def test_a_dry_run_of_a_snapshot_copies_nothing(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    git(tmp_path, "init", "-q")
    hold(root, "launch", "--executor", "local", "--dry", "--snapshot", "--script", "echo.py", code=0)
    assert not root.exists()


def test_points_with_other_needs_are_jobs_of_their_own(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    write_sweep(tmp_path, **{"cluster.gpus_per_node": [0, 1]})
    launch(root, "--sweep", "sweep.yaml", HOLDFAST_GPUS="0")
    assert len(list((root / ".holdfast" / "jobs").iterdir())) == 2
    assert said(root, "echo_sweep/gpus_per_node-1")["arguments"][-1] == "cluster.gpus_per_node=1"


@pytest.mark.parametrize(
    ("executor", "more", "needs"),
    [
        ("local", [], (1, 2)),
        ("local", ["--gpus", "1"], (1, 1)),
        ("local", ["--config", "two.yaml"], (1, 0)),
        ("slurm", [], (1, 8)),
        ("slurm", ["--config", "two.yaml"], (2, 0)),
        ("slurm", ["--config", "two.yaml", "cluster.num_nodes=3"], (3, 0)),
        ("slurm", ["--config", "two.yaml", "--nodes", "5", "--gpus", "4"], (5, 4)),
    ],
)
def test_nodes_and_gpus_come_from_flag_then_config_then_what_is_usual_there(
    executor: str, more: list[str], needs: tuple[int, int], tmp_path: Path
) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "two.yaml").write_text("defaults: config.yaml\n")
    flags = ["--executor", executor, "--account", "a", "--container", "none", "--script", "echo.py"]
    done = hold(root, "launch", "--dry", "--json", *flags, *more, code=0, env={"HOLDFAST_GPUS": "0,1"})
    (found,) = json.loads(done.stdout)
    assert (found["nodes"], found["gpus"]) == needs


def test_a_thousand_points_are_planned_in_a_moment(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    write_sweep(tmp_path, **{"model.layers": list(range(40)), "optim.lr": [number / 1000 for number in range(25)]})
    started = time.monotonic()
    assert len(planned(root, "--sweep", "sweep.yaml")) == 1000
    assert time.monotonic() - started < 10


def test_the_record_keeps_the_exact_tokens_and_the_key_does_not(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT, "cluster.num_nodes=1")
    record = Store(root).find("echo")
    assert record.placement["params"]["tokens"][-1] == "cluster.num_nodes=1"
    assert "tokens" not in record.stage.params and "cluster" not in record.stage.params["config"]


def git(directory: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=directory, check=True)
