"""Whatever is typed: one line says what, where and both values, then a hint; exit code 2, no traceback, nothing run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.launches import launch, write_echo
from tests.runs import ENTRY, environment, hold

SCRIPT = ["--script", "echo.py", "--config", "config.yaml"]


def refused(root: Path, *arguments: str, executor: str = "local", **changes: str) -> str:
    """What is said against it."""
    done = hold(root, "launch", "--executor", executor, *arguments, code=2, env=changes)
    lines = done.stderr.splitlines()
    lines = [line for line in lines if not line.startswith("note: ")]
    assert lines[0].startswith("error: ") and lines[1] == "" and lines[2].startswith("hint: "), done.stderr
    assert len(lines) == 3 and "Traceback" not in done.stderr and not list(root.glob("*"))
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no script is given"),
        (["--nodes", "4"], "add `script_path: path/to/script.py` to the sweep"),
        (["--script", "none.py"], "no script at none.py"),
        (["--script", "echo.py", "--config", "none.yaml"], "no config at none.yaml"),
        ([*SCRIPT, "modle.layers=3"], "did you mean `model`?"),
        ([*SCRIPT, "model.layer=3"], "did you mean `layers`? (to add a new key: +model.layer=3)"),
        ([*SCRIPT, "+model.layers=3"], "already in the config"),
        ([*SCRIPT, "word"], "to pass it on: -- word"),
        ([*SCRIPT, "--nodes", "0"], "--nodes is 0"),
        ([*SCRIPT, "--gpus", "64"], "wants 64 GPUs"),
        ([*SCRIPT, "--time", "soon"], "--time is 'soon'"),
        ([*SCRIPT, "--max-parallel", "0"], "--max-parallel is 0"),
        ([*SCRIPT, "--jobname", "a/b"], "cannot be a directory's name"),
        ([*SCRIPT, "--jobname", "rollouts"], "a folder of holdfast's own"),
        ([*SCRIPT, "--profile", "nemo"], "there is no profile `nemo`"),
        ([*SCRIPT, "--env", "MY_UNSET"], "a variable that is not set"),
        ([*SCRIPT, "--env", "9=1"], "names no variable"),
        ([*SCRIPT, "--snapshot"], "needs a git repository"),
        ([*SCRIPT, "cluster.num_nodes=many"], "expected a whole number"),
        (["--sweep", "none.yaml"], "there is no config at none.yaml"),
        (["--sweep", "list.yaml"], "not a mapping"),
        (["--sweep", "empty.yaml"], "empty list"),
        (["--sweep", "typo.yaml"], "did you mean `layers`?"),
        (["--sweep", "good.yaml", "--script", "other.py"], "does not match sweep config script_path 'echo.py'"),
    ],
)
def test_mistake_is_explained(arguments: list[str], told: str, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "other.py").write_text("")
    head = "script_path: echo.py\nconfig_path: config.yaml\n"
    (tmp_path / "good.yaml").write_text(f"{head}model.layers: [1, 2]\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "empty.yaml").write_text(f"{head}model.layers: []\n")
    (tmp_path / "typo.yaml").write_text(f"{head}model.layer: [1]\n")
    assert told in refused(root, *arguments, HOLDFAST_GPUS="")


def test_two_configs_are_refused_in_the_words_of_the_document(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "custom.yaml").write_text("{}")
    (tmp_path / "sweep.yaml").write_text("script_path: echo.py\nconfig_path: config.yaml\nmodel.layers: [1]\n")
    told = refused(root, "--sweep", "sweep.yaml", "--config", "custom.yaml")
    assert "Command line config 'custom.yaml' does not match sweep config config_path 'config.yaml'" in told
    hold(root, "launch", "--executor", "local", "--dry", "--sweep", "sweep.yaml", "--config", "./config.yaml", code=0)


def test_a_name_that_is_taken_is_refused_with_the_difference(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT, "--jobname", "mine")
    done = hold(root, "launch", "--executor", "local", *SCRIPT, "--jobname", "mine", "model.layers=3", code=2)
    assert "`mine` is taken by other work" in done.stderr
    assert "params.config.model.layers is 2 there, 3 here" in done.stderr


def test_a_default_name_makes_way_for_other_work(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    launch(root, *SCRIPT)
    done = launch(root, *SCRIPT, "model.layers=3")
    assert "note: `echo` holds other work: this is `echo-" in done.stderr
    assert len([path for path in root.iterdir() if path.name.startswith("echo")]) == 2
    assert "nothing to submit" in launch(root, *SCRIPT, "model.layers=3").stderr


def test_a_directory_of_somebody_else_is_not_filled(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (root / "mine").mkdir(parents=True)
    done = hold(root, "launch", "--executor", "local", *SCRIPT, "--jobname", "mine", code=2)
    assert "files lie that holdfast did not make" in done.stderr


def test_what_a_cluster_needs_is_named_at_once(tmp_path: Path) -> None:
    write_echo(tmp_path)
    clean = dict.fromkeys(("LOG", "ACCOUNT", "CON", "HOLDFAST_ROOT"), "")
    command = [sys.executable, "-c", ENTRY, "launch", "--executor", "slurm", *SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment(**clean), capture_output=True, text=True)
    assert done.returncode == 2
    assert "needed to launch on SLURM: LOG, ACCOUNT, CON" in done.stderr
    assert "export LOG=... ACCOUNT=... CON=..." in done.stderr


@pytest.mark.parametrize(
    ("more", "changes", "missing"),
    [
        ([], {"CON": "/images"}, "ACCOUNT"),
        (["--account", "me"], {}, "CON"),
        (["--account", "me", "--container", "nemo.sqsh"], {}, "CON"),
    ],
)
def test_flags_and_root_satisfy_what_a_cluster_needs(
    more: list[str], changes: dict[str, str], missing: str, tmp_path: Path
) -> None:
    root = write_echo(tmp_path)
    told = refused(root, *SCRIPT, *more, executor="slurm", **{"ACCOUNT": "", "CON": "", "LOG": "", **changes})
    assert f"needed to launch on SLURM: {missing}\n" in told


@pytest.mark.parametrize("container", ["/images/a.sqsh", "nvcr.io/nvidia/nemo", "docker://x", "a:24.01", "none"])
def test_a_whole_container_name_needs_no_variable(container: str, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    arguments = ["launch", "--executor", "slurm", "--dry", *SCRIPT, "--account", "me", "--container", container]
    hold(root, *arguments, code=0, env={"CON": "", "ACCOUNT": "", "LOG": ""})


def test_two_roots_are_refused_and_listed(tmp_path: Path) -> None:
    write_echo(tmp_path)
    command = [sys.executable, "-c", ENTRY, "launch", "--executor", "local", *SCRIPT]
    variables = environment(LOG=str(tmp_path / "a"), HOLDFAST_ROOT=str(tmp_path / "b"))
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path}/b (HOLDFAST_ROOT), {tmp_path}/a/nemo-rl (LOG)" in done.stderr


def test_auto_is_local_where_there_is_no_slurm_and_inside_an_allocation(tmp_path: Path) -> None:
    from holdfast.execute.choose import settle_name

    assert settle_name("auto", {"SLURM_JOB_ID": "7"}) == "local"
    assert settle_name("local", {}) == "local"
    assert settle_name("auto", {"PATH": ""}) == "local"
