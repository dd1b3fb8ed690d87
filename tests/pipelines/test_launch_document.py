"""Every command of the launcher's document, typed as it stands there (`python xp/launcher.py` is `holdfast launch`), on
this machine, with the files that it names.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.launches import COMMANDS, THE_SWEEP, check_home, copy_examples, launch, planned
from tests.runs import ENTRY, environment, hold


@pytest.mark.parametrize(("name", "line", "points"), [*COMMANDS, pytest.param(*THE_SWEEP, marks=pytest.mark.slow)])
def test_command_of_the_document_runs_to_its_end(name: str, line: str, points: int, tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    launch(root, *shlex.split(line), "--max-parallel", "2")
    found = json.loads(hold(root, "status", "--json", code=0).stdout)
    assert len(found) == points
    for each in found:
        check_home(root / each["home"])


def test_a_dry_run_prints_the_exact_command_and_writes_nothing(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    line = (
        "launch --dry --script examples/train_grpo.py --config examples/configs/grpo.yaml "
        "model.model_name=meta-llama/Llama-3.2-7B --executor local"
    )
    done = hold(root, *shlex.split(line), code=0)
    assert "examples/train_grpo.py --config examples/configs/grpo.yaml" in done.stdout
    assert done.stdout.rstrip().endswith("model.model_name=meta-llama/Llama-3.2-7B")
    assert "owed        never started" in done.stdout or "owed" in done.stdout
    assert not root.exists()


def test_jobs_are_named_after_the_script_or_by_hand(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    script = ["--script", "examples/train_grpo.py", "--config", "examples/configs/grpo.yaml"]
    assert [each["home"] for each in planned(root, *script)] == ["train_grpo"]
    assert [each["home"] for each in planned(root, *script, "--jobname", "mine")] == ["mine"]
    homes = [each["home"] for each in planned(root, "--sweep", "sweep_lr.yaml", "--jobname", "mine")]
    assert homes[0] == "mine_sweep/lr-1e-6+kl_penalty-0.01" and len(set(homes)) == 8


def test_numbers_of_a_sweep_are_numbers_and_not_words(tmp_path: Path) -> None:
    found = planned(copy_examples(tmp_path), "--sweep", "grpo_sweep.yaml")
    assert {each["point"]["optim.lr"] for each in found} == {1e-6, 5e-6, 1e-5}


def test_the_log_directory_of_the_document_is_the_root(tmp_path: Path) -> None:
    copy_examples(tmp_path)
    command = [
        sys.executable,
        "-c",
        ENTRY,
        "launch",
        "--executor",
        "local",
        "--wait",
        "--script",
        "examples/train_grpo.py",
    ]
    variables = environment(LOG=str(tmp_path / "log"))
    subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True)
    home = tmp_path / "log" / "nemo-rl" / "train_grpo"
    assert (home / "checkpoints").is_dir() and (home / "logs").is_dir() and (home / "wandb").is_dir()


def test_what_is_saved_of_a_cluster_counts_where_config_and_command_line_say_nothing(tmp_path: Path) -> None:
    saved = "slurm: {account: me, container: none, nodes: 3, gpus: 4, launcher: torchrun}\n"
    (tmp_path / "holdfast.yaml").write_text(saved)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "sizes.yaml").write_text("cluster: {num_nodes: 2, gpus_per_node: null}\n")

    def needs(*arguments: str) -> tuple[int, int]:
        typed = ["launch", "--dry", "--json", "--executor", "slurm", "--script", "train.py", *arguments]
        (found,) = json.loads(hold(tmp_path / "root", *typed, code=0).stdout)
        return found["nodes"], found["gpus"]

    assert needs() == (3, 4)
    assert needs("--config", "sizes.yaml") == (2, 4)
    assert needs("--config", "sizes.yaml", "cluster.gpus_per_node=1", "--nodes", "1") == (1, 1)
    (here,) = planned(tmp_path / "root", "--script", "train.py", HOLDFAST_GPUS="")
    assert (here["nodes"], here["gpus"]) == (1, 0), "nothing of it is about this machine"
