"""Generated problems must be the same for ever, and their answers right."""

from __future__ import annotations

import ast
import hashlib
import operator
from typing import Any

import pytest

from holdfast.core.errors import ConfigError
from holdfast.environments import Environment, load_environment

DOES = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def load(**settings: Any) -> Environment:
    return load_environment("arithmetic", settings)


def compute(node: ast.expr) -> int:
    """What Python makes of an expression."""
    if isinstance(node, ast.BinOp):
        return int(DOES[type(node.op)](compute(node.left), compute(node.right)))
    assert isinstance(node, ast.Constant) and isinstance(node.value, int)
    return node.value


@pytest.mark.parametrize("style", ["chat", "raw"])
def test_answers_are_those_of_python(style: str) -> None:
    found = load(digits=4, terms=5, operators=["+", "-", "*"], count=500, format=style)
    assert len({prompt.id for prompt in found.prompts()}) == 500
    for prompt in found.prompts():
        wanted = compute(ast.parse(prompt.id, mode="eval").body)
        assert found.solution(prompt.id) == str(wanted)
        assert found.grade(prompt.id, str(wanted)).reward == 1
        assert found.grade(prompt.id, str(wanted + 1)).reward == 0


def test_problems_are_the_same_on_every_machine_and_for_ever() -> None:
    text = " ".join(prompt.text for prompt in load(digits=5, operators=["+", "-", "*"], terms=3, seed=7).prompts())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c93db62900a9a126"


def test_more_problems_contain_the_fewer() -> None:
    some = [prompt.id for prompt in load(count=40).prompts()]
    assert [prompt.id for prompt in load(count=100).prompts()][:40] == some
    assert some != [prompt.id for prompt in load(count=40, seed=1).prompts()]


def test_choice_is_no_part_of_a_row_but_the_way_of_asking_is() -> None:
    assert load(count=3, digits=9, seed=4).identity() == load().identity() != load(format="raw").identity()
    assert "format" not in load().choice()


def test_more_problems_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has about 100 such problems, wanted 101"):
        load(digits=1, operators=["+"], count=101).prompts()
    assert len(load(digits=1, operators=["+"], count=100).prompts()) == 100
