"""What a person writes in a plan means what it says, or is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.runs import hold, python, shell, write_plan

INNER = """
from holdfast.core.kind import Kind

class Checkpoints(Kind):
    name = "checkpoints"

    def run(self, params, inputs, out):
        with out.artifact("state/step_1") as directory:
            (directory / "w").write_text("w")
"""


def refused(root: Path, *arguments: str) -> str:
    """What is said against it; nothing was written."""
    before = sorted(root.glob(".holdfast/stages/*"))
    said = hold(root, "run", *arguments, code=2).stderr
    assert "\n\nhint: " in said and "Traceback" not in said and sorted(root.glob(".holdfast/stages/*")) == before
    return said


@pytest.mark.parametrize(
    ("token", "meant"),
    [
        ("{in.a}", "{inputs.a}"), ("--in={input.a}", "{inputs.a}"), ("cat {inputs.X}/x", "{inputs.NAME}"),
        ("{inputs.modle}/x", "{inputs.model}"), ("{Inputs.a}", "{inputs.a}"), ("{inptus.a}", "{inputs.a}"),
        ("{output}", "{out}"), ("{Out}/x", "{out}"), ("{out_dir}", "{out}"), ("{pyhton}", "{python}"),
        ("{input}", "{inputs.model}"), ("{in}", "{inputs.NAME}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry", [["--dry"], []])
def test_placeholder_that_is_none_is_refused_with_the_one_that_was_meant(
    token: str, meant: str, dry: list[str], tmp_path: Path
) -> None:
    inputs = {"a": "base", "model": "base"}
    stages = {"base": shell("true"), "user": {**shell(token), "inputs": inputs}}
    write_plan(tmp_path / "plan.yaml", stages)
    told, _, hint = refused(tmp_path / "root", "plan.yaml", *dry).partition("\n\nhint: ")
    assert "has no placeholder `{" in told and meant in hint


def test_other_braces_reach_the_program_as_they_are(tmp_path: Path) -> None:
    tokens = ['{"a": {"b": 1}}', "{print}", "{x}", "{a,b}", "{}", "{ out }", "{1}", "$1 {print $2}", "{out.x}", "{o}"]
    tokens += ["\\${inputs.x} \\${out}", 'f"{output} {inputs.a}"', "{out}"]
    script = "import sys, json; json.dump(sys.argv[2:], open(sys.argv[1] + '/got', 'w'))"
    write_plan(tmp_path / "plan.yaml", {"a": python(script, "{out}", *tokens)})
    hold(tmp_path / "root", "run", "plan.yaml", "--wait", code=0)
    got = json.loads((tmp_path / "root" / "a" / "got").read_text())
    assert got[:-3] == tokens[:-3]
    assert got[-3:] == ["${inputs.x} ${out}", 'f"{output} {inputs.a}"', str(tmp_path / "root" / "a")]


def test_variable_of_the_shell_in_braces_is_explained(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("stages: {a: {kind: command, params: {command: [sh, -c, 'echo ${HOME}']}}}")
    assert r"written `$NAME`, or `\${NAME}`" in refused(tmp_path / "root", "plan.yaml")


def test_makes_takes_no_placeholders(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", {"a": shell("true", makes=["{out}/it"])})
    assert "names there are below its home: it\n" in refused(tmp_path / "root", "plan.yaml")


def test_mistyped_plan_is_named_by_its_neighbour(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", {"a": shell("true")})
    told = refused(tmp_path / "root", "plna.yaml")
    assert "there is no plan at plna.yaml" in told and "did you mean `plan.yaml`?" in told


def test_file_of_others_is_an_input_by_its_contents(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("one")
    stage = {**shell("cat {inputs.data} > {out}/copy", makes=["copy"]), "inputs": {"data": "./data.txt"}}
    write_plan(tmp_path / "plan.yaml", {"a": stage})
    root = tmp_path / "root"
    hold(root, "run", "plan.yaml", "--wait", code=0)
    assert (root / "a" / "copy").read_text() == "one"
    data.rename(tmp_path / "moved.txt")
    (tmp_path / "data.txt").write_text("one")
    assert "1 complete" in hold(root, "run", "plan.yaml", "--dry", code=0).stdout, "same contents, same work"
    (tmp_path / "data.txt").write_text("two")
    assert "taken by other work" in hold(root, "run", "plan.yaml", code=2).stderr


def test_path_that_is_not_there_is_said_at_planning_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    write_plan(tmp_path / "plan.yaml", {"a": {**shell("true"), "inputs": {"m": "./modles/base"}}})
    told = refused(tmp_path / "root", "plan.yaml", "--dry")
    assert "no such directory or file" in told and "did you mean `models/base`?" in told


def plan_of(kind: dict[str, Any], path: str) -> dict[str, Any]:
    return {"b": kind, "c": {**shell("true"), "inputs": {"x": path}}}


@pytest.mark.parametrize("dry", [["--dry"], []])
def test_artifact_that_a_complete_stage_does_not_have_is_said_at_planning(dry: list[str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "inner_kind.py").write_text(INNER)
    own = {"kind": "inner_kind:Checkpoints"}
    write_plan(tmp_path / "first.yaml", {"b": own})
    hold(root, "run", "first.yaml", "--wait", code=0)
    write_plan(tmp_path / "plan.yaml", plan_of(own, "b/state/step_2"))
    told = refused(root, "plan.yaml", *dry)
    assert "b is complete and has no artifact `state/step_2` in it; it has: state/step_1" in told
    assert "did you mean `b/state/step_1`?" in told
    write_plan(tmp_path / "plan.yaml", plan_of(own, "b/state/step_1/"))
    hold(root, "run", "plan.yaml", "--wait", code=0)


def test_artifact_inside_a_command_is_refused_before_and_after_it_ran(tmp_path: Path) -> None:
    root, made = tmp_path / "root", shell("echo 1 > {out}/x", makes=["x"])
    write_plan(tmp_path / "plan.yaml", plan_of(made, "b/x"))
    told = refused(root, "plan.yaml")
    assert "kind command publishes no artifacts inside" in told and "write {inputs.x}/x in the command" in told
    write_plan(tmp_path / "first.yaml", {"b": made})
    hold(root, "run", "first.yaml", "--wait", code=0)
    assert "b is complete and has no artifact `x` in it; it has: none" in refused(root, "plan.yaml")


def test_params_that_say_how_a_command_runs_are_obeyed_and_no_part_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    root, command = tmp_path / "root", "pwd > {out}/where; mkdir {out}/logs/x; echo $HUE >> {out}/where"
    write_plan(tmp_path / "plain.yaml", {"a": shell(command)})
    placed = {"directory": str(tmp_path / "there"), "folders": ["logs"], "variables": {"HUE": "red"}}
    write_plan(tmp_path / "plan.yaml", {"a": shell(command, **placed)})
    keys = [
        json.loads(hold(root, "run", each, "--dry", "--json").stdout)[0]["key"] for each in ("plain.yaml", "plan.yaml")
    ]
    assert keys[0] == keys[1]
    hold(root, "run", "plan.yaml", "--wait", code=0)
    assert (root / "a" / "where").read_text() == f"{tmp_path / 'there'}\nred\n"
