"""Which points a sweep has: a string is not swept letter by letter, and no name is a number that every edit moves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import ConfigError
from holdfast.sweeps import space
from holdfast.sweeps.labels import label, short_keys


def points(**content: Any) -> list[dict[str, Any]]:
    return space.parse(content, "sweep.yaml").points()


def test_a_grid_is_every_value_with_every_other() -> None:
    assert points(a=[1, 2], b=["x", "y"]) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


@pytest.mark.parametrize("value", ["large", 3, 0.5, True, None, ""])
def test_a_scalar_is_one_value(value: Any) -> None:
    assert points(a=value, b=[1, 2]) == [{"a": value, "b": 1}, {"a": value, "b": 2}]


def test_lists_in_a_zip_go_together() -> None:
    found = points(zip=[{"size": [1, 3], "batch": [64, 32]}], seed=[0, 1])
    assert sorted((each["size"], each["batch"], each["seed"]) for each in found) == [
        (1, 64, 0),
        (1, 64, 1),
        (3, 32, 0),
        (3, 32, 1),
    ]


def test_a_draw_is_the_same_again_and_a_larger_one_keeps_it() -> None:
    grid = {f"k{number}": list(range(10)) for number in range(6)}
    few, many = points(**grid, random={"n": 5, "seed": 3}), points(**grid, random={"n": 50, "seed": 3})
    assert few == points(**grid, random={"n": 5, "seed": 3}) == many[:5]
    assert len({tuple(each.values()) for each in many}) == 50
    assert few != points(**grid, random={"n": 5, "seed": 4})


def test_a_draw_of_more_than_there_are_is_all_of_them() -> None:
    assert len(points(a=[1, 2, 3], random={"n": 50})) == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, "sweeps over nothing"),
        ({"script_path": "x.py"}, "sweeps over nothing"),
        ({"a": []}, "`a` is an empty list"),
        ({"a": {"b": [1]}}, "`a` is a section"),
        ({"zip": {"a": [1]}}, "expected a list of groups"),
        ({"zip": [{"a": 1}]}, "expected keys with lists"),
        ({"zip": [{"a": [1, 2], "b": [1]}]}, "a has 2, b has 1"),
        ({"a": [1], "zip": [{"a": [1]}]}, "swept twice"),
        ({"a": [1], "random": 3}, "expected a mapping"),
        ({"a": [1], "random": {"count": 3}}, "has no `count`"),
        ({"a": [1], "random": {"n": 0}}, "expected numbers"),
        ({"a": list(range(1000)), "b": list(range(1000))}, "1000000 points"),
        ({"a": [1], "script_path": ["x.py"]}, "expected a path"),
    ],
)
def test_an_impossible_sweep_is_explained(content: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        points(**content)
    assert raised.value.hint


def test_labels_tell_keys_apart_by_the_shortest_end() -> None:
    assert short_keys(["optim.lr", "critic.optim.lr", "kl"]) == {
        "optim.lr": ".optim.lr",
        "critic.optim.lr": "critic.optim.lr",
        "kl": "kl",
    }
    assert short_keys(["optim.lr", "critic.lr"]) == {"optim.lr": "optim.lr", "critic.lr": "critic.lr"}
    assert label({"optim.lr": 1e-6, "grpo.kl": 0.02}, ["optim.lr", "grpo.kl"]) == "lr-1e-6+kl-0.02"


def test_editing_a_sweep_renames_no_point_that_stays() -> None:
    before = {label(point, ["a", "b"]): point for point in points(a=[1, 2], b=["x"])}
    after = {label(point, ["a", "b"]): point for point in points(b=["w", "x"], a=[0, 1, 2])}
    assert {name: after[name] for name in before} == before


KEYS = st.lists(
    st.text("abc.", min_size=1, max_size=6).map(lambda text: f"k{text}k"), min_size=1, max_size=4, unique=True
)


@given(KEYS, st.lists(st.text(max_size=60), min_size=4, max_size=4))
def test_a_label_can_be_a_directory_and_part_of_an_override(keys: list[str], values: list[str]) -> None:
    name = label(dict(zip(keys, values, strict=False)), keys)
    assert len(name.encode()) <= 120
    assert not set(name) & set("=, /\n\0'\"$`\\") and name.isprintable() and name.isascii()


@given(st.lists(st.text(max_size=60), min_size=2, max_size=2, unique=True))
def test_different_values_have_different_labels(values: list[str]) -> None:
    assert label({"a": values[0]}, ["a"]) != label({"a": values[1]}, ["a"])
