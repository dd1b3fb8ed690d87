"""Types every command of the guides, in their order: each does what the page says around it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from tests.launches import copy_examples
from tests.runs import REPOSITORY, hold, python, wait_until, write_plan
from tests.test_docs import commands
from tests.tiny import write_step_170, write_tiny

from holdfast.core import kind

LEARNS = """
import json, os
with open(os.environ["HOLDFAST_METRICS"], "a") as metrics:
    for step in range(3):
        metrics.write(json.dumps({"step": step, "name": "reward", "value": step / 3}) + "\\n")
"""
OWED = 3


def type_all(page: str, root: Path, **variables: str) -> None:
    for command in commands(REPOSITORY / "docs" / page):
        assert command[0] == "holdfast", f"no test types this: {shlex.join(command)}"
        type_one(root, command[1:], variables)


def type_one(root: Path, tokens: list[str], variables: Mapping[str, str]) -> None:
    def code() -> int:
        return hold(root, *tokens, env=variables).returncode

    if tokens[0] == "track":
        wait_until(lambda: code() == 0)  # the tracker that the run started may still be at it
    else:
        assert code() in ((0, OWED) if tokens[0] == "status" else (0,)), shlex.join(tokens)
    if tokens[0] in ("run", "launch", "evaluate", "convert"):
        wait_until(lambda: ended(root), 90)


def ended(root: Path) -> bool:
    found = json.loads(hold(root, "status", "--json").stdout)
    return not any(each["state"] in ("queued", "running") for each in found)


def test_commands_of_the_guide_to_rollouts_do_what_it_says(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    prompts = tmp_path / "examples" / "grl_tetris" / "test_examples_200.jsonl"
    (tmp_path / "test_examples_200.jsonl").write_bytes(prompts.read_bytes())
    done = [
        {"prompt": json.loads(line), "response": {"output": []}, "reward": 1.0}
        for line in prompts.read_text().splitlines()
    ]
    for name in ("rollouts.jsonl", "their_rollouts.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in done[:7]))
    for command in commands(REPOSITORY / "docs" / "guides" / "rollouts.md"):
        code = hold(root, *command[1:]).returncode
        assert code == (OWED if "--input" in command else 0), shlex.join(command)
    assert len((tmp_path / "remaining_prompts.jsonl").read_text().splitlines()) == 200
    assert (tmp_path / "table" / "rollouts.parquet").exists()


def test_commands_of_the_guide_to_launching_do_what_it_says(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    # What tests/stages/test_trl.py does with the real TRL, and nothing here can with the real verl.
    for script in ("train.py", "verl/trainer/main_ppo.py"):
        (tmp_path / script).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / script).write_text("raise SystemExit('it was started')")
    (tmp_path / "sft.yaml").write_text("{output_dir: x, learning_rate: 1e-5, max_steps: 60}")
    type_all("guides/launch.md", root, WANDB_MODE="disabled")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    found = json.loads(hold(root, "status", "--json", code=1).stdout)
    owed = {each["name"]: each["reason"] for each in found if each["state"] != "complete"}
    assert sorted(owed) == ["main_ppo", "train"] and all("it was started" in reason for reason in owed.values())
    # Two commands are the same work, and what the config says is a point of both sweeps.
    assert len(found) - len(owed) == 2 + 7 + 5


@pytest.mark.train
def test_commands_of_the_guide_to_trackers_do_what_it_says(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_plan(tmp_path / "plan.yaml", {"run": python(LEARNS)})
    type_all("guides/trackers.md", root, WANDB_MODE="offline")


@pytest.mark.train
@pytest.mark.slow
def test_commands_of_the_guide_to_evaluating_do_what_it_says(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    write_step_170(tmp_path)
    type_all("guides/evaluate.md", root, HF_HUB_OFFLINE="1")
    found = {each["name"]: each["state"] for each in json.loads(hold(root, "status", "--json", code=0).stdout)}
    assert set(found.values()) == {"complete"}
    assert len([name for name in found if name.startswith("step_170_")]) == 2, "one of them bfloat16"
    assert (tmp_path / "converted" / "step_170" / "model.safetensors").exists()
    assert json.loads((root / "evals" / "step_170" / "metrics.json").read_text())["coverage"]["done"] == 64 * 4


@pytest.mark.train
def test_commands_of_the_guide_to_data_sets_do_what_it_says(tmp_path: Path) -> None:
    write_tiny(tmp_path / "model")
    asks = ("evaluate", "generation.model_name=model", "data.dataset_name=arithmetic", "--engine", "fake", "--wait")
    hold(tmp_path / "root", *asks, "--jobname", "base", code=0)
    hold(tmp_path / "root", *asks, "generation.temperature=1.0", "--jobname", "grpo", code=0)
    type_all("guides/datasets.md", tmp_path / "root")


def test_commands_and_files_of_the_guide_to_plans_do_what_it_says(tmp_path: Path) -> None:
    root = tmp_path / "root"
    page = (REPOSITORY / "docs" / "guides" / "plans.md").read_text()
    for name, content in re.findall(r"```\w+\n# (\S+\.(?:yaml|py))\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(content)
    (tmp_path / "list.txt").write_text("one two three\n")
    type_all("guides/plans.md", root)
    assert (root / "count" / "count.txt").read_text() == "3\n"
    assert (root / "loud" / "loud.txt").read_text() == "ONE TWO THREE\n" * 2
    assert (root / "count" / "logs" / "metrics.csv").read_text().startswith("step,")


@pytest.mark.parametrize("name", kind.SHIPPED)
def test_guide_to_plans_names_every_param_with_its_default(name: str) -> None:
    page = (REPOSITORY / "docs" / "guides" / "plans.md").read_text()
    (section,) = re.findall(rf"^## `{name}`.*?(?=^## )", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| (`.*?) \| (required|`.*?) \|", section.partition("\nPlaceholders")[0], re.MULTILINE)
    said = {
        param: default
        for names, defaults in rows
        for param, default in zip(
            names.split(", "), defaults.split(", ") if "`, `" in names else [defaults], strict=True
        )
    }
    fields = kind.load(name).Params.model_fields
    assert said == {f"`{param}`": default_of(field) for param, field in fields.items()}


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return f"`{'none' if default is None else json.dumps(default)}`"
