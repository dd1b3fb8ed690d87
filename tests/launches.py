"""A directory from which `holdfast launch` is typed: the shipped examples, and scripts that say what reached them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.runs import REPOSITORY, hold

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
