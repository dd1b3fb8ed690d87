"""What the README shows is what happens: its plan is a plan, its commands run, its example makes what it says."""

import json
import re
from pathlib import Path

import pytest
from tests.runs import REPOSITORY, hold, start
from tests.tiny import write_step_170

README = (REPOSITORY / "README.md").read_text()


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_plan_of_the_readme_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(fenced("yaml")[0])
    planned = json.loads(hold(tmp_path / "runs", "run", "plan.yaml", "--dry", "--json", code=0).stdout)
    assert {each["name"]: each["reason"] for each in planned} == {
        "base": "never started",
        "grpo": "never started; waits for base",
        "two-thirds": "never started; waits for grpo/training_state/step_100",
        "scores": "never started; waits for two-thirds",
        "best": "never started; waits for scores",
    }
    assert not (tmp_path / "runs" / ".holdfast" / "stages").exists()


def evaluate_two(root: Path) -> None:
    """What the table compares."""
    write_step_170(root.parent)
    asked = ("evaluate", "generation.model_name=base", "data.dataset_name=arithmetic", "--engine", "fake", "--wait")
    hold(root, *asked, "--jobname", "A", code=0)
    hold(root, *asked, "generation.temperature=1.0", "--jobname", "B", code=0)


def look(root: Path, arguments: list[str]) -> None:
    """Open the page, and leave it again."""
    viewer = start(root, *arguments, "--no-browser")
    assert viewer.stdout is not None and viewer.stdout.readline().startswith("http://127.0.0.1:")
    viewer.terminate()
    viewer.communicate(timeout=30)


@pytest.mark.train
def test_every_command_of_the_table_does_what_it_says(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (tmp_path / "plan.yaml").write_text(
        "stages: {NAME: {kind: command, params: {command: [sh, -c, 'echo made > {out}/it'], makes: [it]}}}"
    )
    commands = re.findall(r"\| `holdfast (.*?)`", README)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    assert len(commands) == 19 and commands[0] == "quickstart"
    evaluate_two(root)
    for command in commands[1:]:
        arguments = [*command.split(), *(["--yes"] if command.startswith("rm") else [])]
        if command.startswith("evaluate"):
            arguments += ["--engine", "fake", "--wait"]
        if command.startswith("rollout run"):
            arguments += ["--engine", "fake", "model=fake", "repeats=2", "--wait"]
        if command == "run plan.yaml":
            arguments.append("--wait")
        if command.startswith("launch"):
            arguments.append("--dry")
        if command.startswith("rollout view"):
            look(root, arguments)
        else:
            hold(root, *arguments, code=None if command == "status" else 0)
    assert "deleted on purpose" in hold(root, "status", code=0).stdout


def test_example_kind_of_the_readme_makes_its_data_set_in_less_than_sixty_lines(tmp_path: Path) -> None:
    evaluation = tmp_path / "holdfast-runs" / "evals" / "quickstart-base-addition"
    evaluation.mkdir(parents=True)
    rows = [("1+1", "3", 0.0), ("1+1", "2", 1.0), ("2+2", "5", 0.0)]
    (evaluation / "rows.jsonl").write_text(
        "".join(json.dumps({"id": i, "prompt": f"{i}=", "response": r, "reward": w}) + "\n" for i, r, w in rows)
    )
    plan = (REPOSITORY / "examples" / "best_of_n.yaml").read_text()
    (tmp_path / "plan.yaml").write_text(plan)
    root = tmp_path / "runs"
    hold(root, "run", "plan.yaml", "--wait", code=0)
    made = (root / "datasets" / "sums" / "train.jsonl").read_text()
    assert [json.loads(line) for line in made.splitlines()] == [{"prompt": "1+1=", "completion": "2"}]
    assert len((REPOSITORY / "examples" / "best_of_n.py").read_text().splitlines()) < 60
