"""`holdfast launch` on a real SLURM: the launcher's document, command by command, and values that are hard to hand on.

This cluster has no Pyxis, and its nodes are one small machine: commands run with `--container none` and without a Ray.
What the document's own container would be given is read off a stand-in for `srun` and off the scripts.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.launches import (
    COMMANDS,
    ECHO,
    THE_SWEEP,
    check_home,
    copy_examples,
    said,
    type_as_the_document,
    write_echo,
)
from tests.runs import REPOSITORY, hold, is_running, shell, wait_until, write_plan
from tests.slurm.cluster import Cluster
from tests.slurm.test_executor import SMALL_RAY
from tests.test_docs import commands

from holdfast.core import config, process

HERE = ("--executor", "slurm", "--container", "none", "--launcher", "plain")
MINE = (*HERE, "--account", "team")
AWKWARD = [
    "two words",
    "it's",
    '"quoted"',
    "$HOME",
    "${x}",
    "`id`",
    "$(id)",
    "a,b",
    "#c",
    "line\nbreak",
    "ü→🎲",
    "",
    "*",
]
AWKWARD += [
    "\\n",
    "%j",
    "%%",
    "-x",
    "--dry",
    "tab\there",
    " end ",
    "{out}",
    "{inputs.x}",
    "a=b",
    "~",
    "!",
    "&|;<>",
    "''",
]
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
SECRET = "hunter2-never-on-disk"
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > {directory}/srun-arguments
while [ "${{1#--}}" != "$1" ]; do shift; done
exec "$@"
"""


class Document:
    """One command of the document in a directory of its own."""

    def __init__(self, directory: Path, cluster: Cluster, line: str, *more: str) -> None:
        copy_examples(directory)
        self.root = directory / "log" / "nemo-rl"
        self.directory = directory
        self.cluster = cluster
        done = type_as_the_document(directory, "launch", *shlex.split(line), *HERE, *more, **cluster.environment)
        assert done.returncode == 0, done.stderr

    def standings(self) -> list[dict[str, object]]:
        done = type_as_the_document(self.directory, "status", "--json", **self.cluster.environment)
        return [dict(each) for each in json.loads(done.stdout)]

    def are_done(self, points: int, seconds: float) -> None:
        def ended() -> bool:
            return not any(each["state"] in ("queued", "running") for each in self.standings())

        wait_until(ended, seconds)
        found = self.standings()
        assert len(found) == points
        for each in found:
            assert each["state"] == "complete", each
            check_home(self.root / str(each["home"]))

    def jobs(self) -> list[str]:
        """What SLURM says of each, in one line."""
        ids = [
            job
            for file in self.root.glob(".holdfast/jobs/*/slurm.json")
            for job in json.loads(file.read_text())["ids"].values()
        ]
        return [self.cluster.run("scontrol", "--oneliner", "show", "job", job).stdout.splitlines()[0] for job in ids]


@pytest.fixture(scope="module")
def launched(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Document]]:
    """All commands at once: SLURM works them off side by side."""
    yield {
        name: Document(tmp_path_factory.mktemp("document"), cluster, line, "--max-parallel", "4")
        for name, line, _ in COMMANDS
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line", "points"), COMMANDS)
def test_command_of_the_document_runs_to_its_end_on_slurm(
    launched: dict[str, Document], name: str, line: str, points: int
) -> None:
    launched[name].are_done(points, 240)
    typed = shlex.split(line)
    for job in launched[name].jobs():
        nodes = typed[typed.index("--nodes") + 1] if "--nodes" in typed else "1"
        time = typed[typed.index("--time") + 1].partition(":")[0] if "--time" in typed else "4"
        assert f" NumNodes={nodes} " in job and f" TimeLimit={int(time):02d}:00:00 " in job
        assert " Partition=batch " in job and " TresPerNode=gres:gpu:8 " in f"{job} "


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sweep_of_the_document_runs_to_its_end_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    _, line, points = THE_SWEEP
    Document(tmp_path, cluster, line, "--max-parallel", "6").are_done(points, 500)


@pytest.mark.parametrize(("name", "line", "points"), [*COMMANDS, THE_SWEEP])
def test_command_of_the_document_renders_a_script_with_all_that_it_says(
    name: str, line: str, points: int, tmp_path: Path
) -> None:
    copy_examples(tmp_path)
    typed = shlex.split(line)
    flags = ["--executor", "slurm", "--container", "rl.sqsh", "--dry"]
    done = type_as_the_document(tmp_path, "launch", *typed, *flags)
    assert done.returncode == 0, done.stderr
    script = done.stdout.partition("# given to sbatch\n")[2]
    wanted = ["--account=team", "--partition=batch", "--gpus-per-node=8", "--requeue"]
    wanted += [f"--nodes={typed[typed.index('--nodes') + 1] if '--nodes' in typed else 1}"]
    wanted += [f"--time={typed[typed.index('--time') + 1] if '--time' in typed else '4:0:0'}"]
    wanted += [f"--array=0-{points - 1}"] if points > 1 else []
    for option in wanted:
        assert f"#SBATCH {option}\n" in script
    assert not (tmp_path / "log").exists()


def test_container_of_the_document_reaches_srun_with_its_mounts(cluster: Cluster, tmp_path: Path) -> None:
    write_echo(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(STAND_IN.format(directory=tmp_path))
    (tmp_path / "bin" / "srun").chmod(0o755)
    (tmp_path / "holdfast.yaml").write_text(f"slurm: {{setup: ['export PATH={tmp_path}/bin:$PATH']}}\n")
    flags = [
        "--script",
        "echo.py",
        "--container",
        "rl.sqsh",
        "--mounts",
        "/data:/data",
        "--executor",
        "slurm",
        "--wait",
    ]
    done = type_as_the_document(tmp_path, "launch", *flags, "+a=b c", **cluster.environment)
    assert done.returncode == 0, done.stderr
    given_to_srun = (tmp_path / "srun-arguments").read_text().splitlines()
    root = tmp_path / "log" / "nemo-rl"
    assert f"--container-image={tmp_path}/images/rl.sqsh" in given_to_srun
    (mounts,) = [each for each in given_to_srun if each.startswith("--container-mounts=")]
    assert mounts.partition("=")[2].split(",")[0] == "/data:/data" and f"{root}:{root}" in mounts
    assert said(root, "echo")["arguments"] == ["+a=b c"]


# Pyxis without a container: notes what it was given, and runs it on the host.
HOST = """#!/bin/sh
echo "$@" >> {directory}/steps
for word do
    shift
    case $word in --container-*|--no-container-*) ;; *) set -- "$@" "$word" ;; esac
done
exec {srun} "$@"
"""


@pytest.mark.slow
def test_command_of_the_document_runs_beside_a_ray_over_its_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """As NeMo RL's profile has it: Ray's nodes and the script are steps of one job, all of them in the container."""
    copy_examples(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(HOST.format(directory=tmp_path, srun=shutil.which("srun")))
    (tmp_path / "bin" / "srun").chmod(0o755)
    (line,) = [line for name, line, _ in COMMANDS if name == "example 1"]
    flags = ["--executor", "slurm", "--container", "rl.sqsh", "--wait"]
    flags += ["--interpreter", os.environ.get("HOLDFAST_RAY_PYTHON", sys.executable)]
    flags += [f"--env={name}" for name in SMALL_RAY]
    variables = {
        **cluster.environment,
        **SMALL_RAY,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    done = type_as_the_document(tmp_path, "launch", *shlex.split(line), *flags, **variables)
    assert done.returncode == 0, done.stderr
    check_home(tmp_path / "log" / "nemo-rl" / "grpo_llama_7b")
    steps = [each for each in (tmp_path / "steps").read_text().splitlines() if " status " not in each]
    assert [" --head " in each for each in steps] == [True, False, False] and "train_grpo.py" in steps[2]
    assert all(f"--container-image={tmp_path}/images/rl.sqsh" in each for each in steps)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--partition", "nope"], "invalid partition specified: nope"),
        (["--nodes", "9"], "`echo` wants 9 nodes, and partition batch has 4"),
        (["--gpus", "9"], "Requested node configuration is not available"),
    ],
)
def test_what_the_cluster_has_not_is_refused_and_the_right_command_goes_on(
    wrong: list[str], told: str, cluster: Cluster, tmp_path: Path
) -> None:
    root = write_echo(tmp_path)
    command = ["launch", *MINE, "--script", "echo.py"]
    refused = hold(root, *command, *wrong, code=2, env=cluster.environment).stderr.splitlines()
    assert refused[-3].startswith("error: ") and told in refused[-3] and refused[-1].startswith("hint: ")
    (standing,) = json.loads(hold(root, "status", "--json", code=3, env=cluster.environment).stdout)
    assert standing["state"] == "owed" and told in standing["reason"]
    hold(root, *command, "--wait", code=0, env=cluster.environment)


def test_same_command_goes_on_when_the_cluster_has_what_it_had_not(cluster: Cluster, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    command = ["launch", *MINE, "--script", "echo.py", "--partition", "later"]
    cluster.stop_controller()
    try:
        told = hold(root, *command, code=2, env=cluster.environment).stderr
    finally:
        cluster.start_controller()
    assert "\nerror: SLURM cannot be reached" in told and "\nhint: is the controller up?" in told
    assert not root.exists()
    hold(root, *command, code=2, env=cluster.environment)
    cluster.run("scontrol", "create", "PartitionName=later", "Nodes=ALL")
    try:
        hold(root, *command, "--wait", code=0, env=cluster.environment)
    finally:
        delete = ("scontrol", "delete", "PartitionName=later")  # refused while a job of it is not cleared away
        wait_until(lambda: cluster.run(*delete, check=False).returncode == 0)
    assert said(root, "echo")["arguments"] == []


def test_commands_of_the_page_on_slurm_do_what_it_says(cluster: Cluster, tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", {"NAME": shell("sleep 1"), "other": shell("true")})
    typed = [command[1:] for command in commands(REPOSITORY / "docs" / "slurm.md")]
    assert [tokens[0] for tokens in typed] == ["run", "run", "status", "cancel"]
    for tokens in typed:
        hold(tmp_path / "root", *tokens, code=0, env=cluster.environment)
    listed = json.loads(hold(tmp_path / "root", "status", "--json", code=0, env=cluster.environment).stdout)
    assert {each["state"] for each in listed} == {"complete"}


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(VALUES, min_size=8, max_size=20))
@example(values=AWKWARD)
def test_any_value_arrives_unchanged_on_slurm(
    values: list[str], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As an override, behind `--`, in a stored and in a forwarded variable, and swept, all of them in each job."""
    directory = tmp_path_factory.mktemp("values")
    root = write_echo(directory)
    names = [f"MY_{number}" for number in range(len(values))]
    stored = [f"--env={name}_S={value}" for name, value in zip(names, values, strict=True)]
    forwarded = [f"--env={name}" for name in names]
    tokens = [f"+key{number}={value}" for number, value in enumerate(values)]
    (directory / "sweep.yaml").write_text(yaml.safe_dump({"swept": [values, "one"]}, default_style='"'))
    command = ["launch", *MINE, "--script", "echo.py", "--sweep", "sweep.yaml", *stored, *forwarded, "--wait", *tokens]
    variables = {**cluster.environment, **dict(zip(names, values, strict=True))}
    hold(root, *command, "--", *values, code=0, env=variables)
    swept = []
    for home in (root / "echo_sweep").iterdir():
        arrived = json.loads((home / "said.json").read_text())
        swept += [token.partition("=")[2] for token in arrived["arguments"] if token.startswith("swept=")]
        assert [token for token in arrived["arguments"] if token.startswith("+key")] == tokens
        assert arrived["arguments"][len(arrived["arguments"]) - len(values) :] == values
        assert [arrived["env"][f"{name}_S"] for name in names] == values
        assert [arrived["env"][name] for name in names] == values
    assert sorted((config.value_of(text) for text in swept), key=str) == sorted([values, "one"], key=str)


def test_secrets_of_the_shell_are_in_no_file_of_ours_and_in_none_of_slurm(cluster: Cluster, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "echo.py").write_text(
        ECHO + 'assert os.environ["HF_TOKEN"] and "AWS_SECRET_ACCESS_KEY" not in os.environ\n'
    )
    secrets = {"HF_TOKEN": f"hf-{SECRET}", "AWS_SECRET_ACCESS_KEY": f"aws-{SECRET}"}
    command = ["launch", *MINE, "--script", "echo.py", "--env", "HF_TOKEN", "--wait"]
    hold(root, *command, code=0, env={**cluster.environment, **secrets})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8 and [path for path in files if SECRET.encode() in path.read_bytes()] == []
    of_slurm = [path for path in cluster.directory.rglob("*") if path.is_file()]
    assert [path for path in of_slurm if f"aws-{SECRET}".encode() in path.read_bytes()] == []
    assert [path for path in of_slurm if f"hf-{SECRET}".encode() in path.read_bytes()], "or this looks elsewhere"


EARLY = "import os; os.makedirs(os.environ['HOLDFAST_CHECKPOINTS'] + '/step_10')"
DELETES = """
import json, os, shutil
where = os.environ["HOLDFAST_CHECKPOINTS"]
for step in (10, 20, 30):
    os.makedirs(f"{where}/step_{step}")
    json.dump({"total_steps": step}, open(f"{where}/step_{step}/training_info.json", "w"))
shutil.rmtree(f"{where}/step_30")
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
DIES = "import time; print('up', flush=True); time.sleep(600)"
DAEMON = """
import os, subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
left = subprocess.Popen(command, start_new_session=True)
open(os.environ["HOLDFAST_OUT"] + "/pid", "w").write(str(left.pid))
left.returncode = 0
"""
PROFILE = """
name: mine
checkpoints: ["checkpoints/step_*"]
done_when: {state: training_info.json, step: total_steps, steps: [steps]}
"""


@pytest.mark.slow
def test_trainers_that_misbehave_are_seen_for_what_they_are_on_slurm(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "config.yaml").write_text("steps: 30\n")
    (tmp_path / "mine.yaml").write_text(PROFILE)
    (tmp_path / "saves.yaml").write_text(PROFILE + "stop_signal: USR1\n")
    user = process.current().user
    scripts = {"early": EARLY, "deletes": DELETES, "deaf": DEAF, "dies": DIES, "daemon": DAEMON, "parts": DAEMON + "0"}
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
        profile = {"dies": "saves.yaml", "daemon": "plain"}.get(name, "mine.yaml")
        command = ["launch", *MINE, "--script", f"{name}.py", "--config", "config.yaml", "--profile", profile]
        hold(root, *command, code=0, env=cluster.environment)

    def settled(name: str) -> dict[str, Any] | None:
        (found,) = json.loads(hold(root, "status", name, "--json", env=cluster.environment).stdout)
        return None if found["state"] in ("queued", "running") else dict(found)

    for name in ("deaf", "dies"):
        wait_until(partial(_says_that_it_is_up, root, name, cluster), 60)
        hold(root, "cancel", name, env=cluster.environment)
    found = {name: wait_until(partial(settled, name), 90) for name in scripts}
    assert {name: each["state"] for name, each in found.items()} == {
        **dict.fromkeys(scripts, "owed"),
        "daemon": "complete",
    }
    assert {name: each["reason"].partition(" in the background")[0] for name, each in found.items()} == {
        "early": "failed once: exited 0, and its newest checkpoint step_10 has no readable training_info.json",
        "deletes": "failed once: exited 0 at step 20 of 30",
        "deaf": f"cancelled by {user}; it did not end when it was asked to, and was killed",
        "dies": f"cancelled by {user}; SIGUSR1, on which its profile says that it saves, ended it at once",
        "daemon": "",
        "parts": "failed once: exited 0 without a checkpoint checkpoints/step_*; 1 processes that it left",
    }
    for name in scripts:
        told = hold(root, "why", name, code=0, env=cluster.environment).stdout
        assert found[name]["reason"] in told and told.startswith(f"{name} (command, ")
    for name in ("daemon", "parts"):
        assert not is_running(int((root / name / "pid").read_text()))


def _says_that_it_is_up(root: Path, name: str, cluster: Cluster) -> bool:
    return "up" in hold(root, "logs", name, env=cluster.environment).stdout
