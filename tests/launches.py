"""A directory from which `holdfast launch` is typed: the shipped examples, and scripts that say what reached them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.runs import ENTRY, REPOSITORY, environment, hold

ECHO = """
import json, os, sys
names = [name for name in os.environ if name.startswith(("HOLDFAST_", "WANDB_", "MY_"))]
said = {"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": {name: os.environ[name] for name in names}}
with open(os.path.join(os.environ["HOLDFAST_OUT"], "said.json"), "w") as file:
    json.dump(said, file)
"""
CONFIG = {
    "model": {"name": "small", "layers": 2},
    "optim": {"lr": 1e-3},
    "cluster": {"num_nodes": 2, "gpus_per_node": 0},
    "checkpointing": {"save_dir": "results", "every": 5},
    "logger": {"wandb_enabled": False, "wandb": {"name": "fixed", "project": "p"}},
}

COMMANDS: list[tuple[str, str, int]] = [
    (
        "basic",
        "--script examples/train_grpo.py --config examples/configs/grpo.yaml",
        1,
    ),
    (
        "multi-node",
        '--script examples/train_grpo.py --config examples/configs/grpo.yaml --nodes 4 --time "8:0:0"',
        1,
    ),
    (
        "custom parameters",
        "--script examples/train_grpo.py --config examples/configs/grpo.yaml "
        "model.model_name=meta-llama/Llama-3.2-7B grpo.kl_penalty=0.02 optim.lr=5e-6",
        1,
    ),
    (
        "additional parameters",
        "--script examples/train_grpo.py model.model_name=custom_model grpo.num_episodes=1000 "
        "logger.wandb.project=my_project",
        1,
    ),
    (
        "example 1",
        "--script examples/train_grpo.py --config examples/configs/grpo.yaml --nodes 2 "
        '--time "6:0:0" --jobname grpo_llama_7b model.model_name=meta-llama/Llama-3.2-7B',
        1,
    ),
    ("example 2", "--sweep sweep_lr.yaml --nodes 2", 8),
    ("example 3", '--sweep sweep_models.yaml --time "12:0:0" --jobname model_comparison', 6),
    (
        "example 5",
        "--script examples/train_ppo.py --config examples/configs/ppo.yaml --nodes 4 "
        '--time "10:0:0" --jobname ppo_large_model model.model_name=meta-llama/Llama-3.2-8B ppo.epochs=4 '
        "ppo.learning_rate=3e-6 logger.wandb.project=ppo_experiments",
        1,
    ),
    (
        "example 6",
        "--script examples/train_grpo.py --jobname custom_experiment logger.wandb.project=my_research "
        'logger.wandb.group=grpo_experiments logger.wandb.tags=\'["experiment1", "baseline"]\'',
        1,
    ),
]
"""Every command of the launcher's document that runs something: its name, what stands behind `python xp/launcher.py`,
and how many points it has."""
THE_SWEEP = ("the sweep", "--sweep grpo_sweep.yaml", 54)


def copy_examples(directory: Path) -> Path:
    """The repository's examples at the places that the document's commands name; returns the root to use."""
    shutil.copytree(REPOSITORY / "examples", directory / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for sweep in (REPOSITORY / "examples").glob("*sweep*.yaml"):
        shutil.copy(sweep, directory / sweep.name)
    return directory / "root"


def write_echo(directory: Path, config: Mapping[str, Any] | None = None) -> Path:
    """A script that leaves its arguments in `said.json`, and a config; returns the root to use."""
    (directory / "echo.py").write_text(ECHO)
    (directory / "config.yaml").write_text(json.dumps(CONFIG if config is None else config))
    return directory / "root"


def launch(
    root: Path, *arguments: str, code: int | None = 0, executor: str = "local", **changes: str
) -> subprocess.CompletedProcess[str]:
    """Type `holdfast launch` and stay until it is done."""
    return hold(root, "launch", "--executor", executor, "--wait", *arguments, code=code, env=changes)


def said(root: Path, name: str) -> dict[str, Any]:
    """What reached the script of this home."""
    return dict(json.loads((root / name / "said.json").read_text()))


def planned(root: Path, *arguments: str, **changes: str) -> list[dict[str, Any]]:
    """What a dry run says of each point."""
    done = hold(root, "launch", "--dry", "--json", "--executor", "local", *arguments, code=0, env=changes)
    return [dict(each) for each in json.loads(done.stdout)]


def check_home(home: Path) -> None:
    """What the document says of the directory of a job, once it is done."""
    assert {"checkpoints", "logs", "wandb", "metrics.jsonl"} <= {entry.name for entry in home.iterdir()}
    assert json.loads((home / "checkpoints" / "step_30" / "training_info.json").read_text())["total_steps"] == 30


def type_as_the_document(directory: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`holdfast ...` in a shell where LOG, ACCOUNT and CON are set, and nothing else says where the root is."""
    variables = {"LOG": str(directory / "log"), "ACCOUNT": "team", "CON": str(directory / "images"), **changes}
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=directory,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
