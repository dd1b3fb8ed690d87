"""Training on what is evaluated, or evaluating other problems tomorrow, would make every number worthless."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests import kinds

from holdfast.core import kind
from holdfast.core.errors import ConfigError
from holdfast.core.stage import Ref
from holdfast.environments import Environment, load_environment
from holdfast.environments.addition import problems


def load(**settings: Any) -> Environment:
    return load_environment("addition", settings)


def ids(**settings: Any) -> list[str]:
    return [prompt.id for prompt in load(**settings).prompts()]


def test_held_out_problems_are_never_trained_on_in_either_order() -> None:
    train, held_out = ids(split="train"), ids(split="held_out")
    assert sorted(train + held_out) == sorted(problems())
    assert 600 < len(held_out) < 1000
    assert not {"+".join(reversed(each.split("+"))) for each in held_out} & set(train)


def test_the_split_and_its_order_are_the_same_on_every_machine_and_for_ever() -> None:
    text = " ".join(ids(split="held_out", count=256, seed=0))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1063e8a947cda962"


def test_more_problems_contain_the_fewer() -> None:
    assert ids(count=100)[:40] == ids(count=40)
    assert ids(count=40, seed=1) != ids(count=40, seed=2)


@pytest.mark.parametrize(("completion", "worth"), [("95", 1.0), ("94", 0.0), ("95 ", 0.0), ("955", 0.0), ("", 0.0)])
def test_only_the_answer_alone_is_worth_something(completion: str, worth: float) -> None:
    assert load().reward("37+58", completion) == worth


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("additoin", {}, "did you mean `addition`"),
        ("addition", {"cuont": 3}, "did you mean `count`"),
        ("addition", {"split": "test"}, "split"),
        ("no.such.module:Thing", {}, "PYTHONPATH"),
        ("holdfast.environments:Prompt", {}, "derived from holdfast.environments.Environment"),
    ],
)
def test_a_misspelt_environment_is_told_its_nearest_name(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_environment(name, settings)
    assert says in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_raised_version_of_an_environment_owes_its_work_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"environment": "tests.kinds:Sums", **({"run": "r", "steps": 1} if name == "train" else {})}
    inputs = {"model": Ref("m" * 64)}
    before = kind.load(name).stage(params, inputs).key
    monkeypatch.setattr(kinds.Sums, "version", 2)
    assert kind.load(name).stage(params, inputs).key != before


def test_misspelt_environment_is_told_when_it_is_planned() -> None:
    with pytest.raises(ConfigError, match="there is no environment `adition`"):
        kind.load("evaluate").stage({"environment": "adition"}, {"model": Ref("m" * 64)})
