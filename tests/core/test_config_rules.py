"""Configs say what people mean: inheritance, `_override_`, dotted overrides, numbers as numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import config
from holdfast.core.errors import ConfigError

KEYS = st.sampled_from(["a", "b", "c", "d"])
TREES = st.recursive(
    st.integers(0, 9) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(KEYS, TREES, max_size=4)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(tree, dict) and tree:
        return {where: leaf for key, inner in tree.items() for where, leaf in leaves(inner, (*path, key)).items()}
    return {path: tree}


@given(CONFIGS, CONFIGS)
def test_everything_that_the_upper_config_says_holds(base: dict[str, Any], top: dict[str, Any]) -> None:
    before = copy.deepcopy((base, top))
    merged = config.merge(base, top)
    found = leaves(merged)
    for path, value in leaves(top).items():
        if value != {} and path:
            assert found[path] == value
    assert (base, top) == before, "merging changes neither"


@given(CONFIGS, CONFIGS)
def test_what_the_upper_config_does_not_mention_stays(base: dict[str, Any], top: dict[str, Any]) -> None:
    merged = config.merge(base, top)
    for key in base.keys() - top.keys():
        assert merged[key] == base[key]


@given(CONFIGS)
def test_merging_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert config.merge(base, {}) == base == config.merge({}, base) == config.merge(base, base)


@given(CONFIGS, CONFIGS, CONFIGS)
def test_chain_of_defaults_is_the_same_however_it_is_folded_where_shapes_agree(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    top = {key: value for key, value in three.items() if not isinstance(value, dict)}
    assert config.merge(config.merge(one, two), top) == config.merge(one, config.merge(two, top))


@given(CONFIGS, st.dictionaries(KEYS, st.integers(0, 9), max_size=3))
def test_section_marked_override_replaces_what_it_inherits(base: dict[str, Any], section: dict[str, Any]) -> None:
    merged = config.merge({"s": base}, {"s": {**section, "_override_": True}})
    assert merged == {"s": section}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9))
def test_numbers_of_overrides_are_numbers(value: float) -> None:
    found = config.apply({"x": 0}, [f"x={value!r}"])["x"]
    assert found == value and isinstance(found, int | float)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.integers(), min_size=1), min_size=1), st.data())
def test_override_changes_one_leaf_and_nothing_else(tree: dict[str, Any], data: st.DataObject) -> None:
    before = copy.deepcopy(tree)
    path = data.draw(st.sampled_from(sorted(leaves(tree))))
    changed = config.apply(tree, [f"{'.'.join(path)}=new"])
    assert leaves(changed) == {**leaves(tree), path: "new"}
    gone = config.apply(tree, [f"~{'.'.join(path)}"])
    assert {where for where, value in leaves(gone).items() if value != {}} == leaves(tree).keys() - {path}
    assert tree == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6), ("3e5", 3e5), ("1.5", 1.5), ("007", 7), ("true", True), ("null", None), ("[1, 2]", [1, 2]),
        ("a b", "a b"), ("a=b", "a=b"), ("$(rm -rf x)", "$(rm -rf x)"), ("`id`", "`id`"), ("2024-01-01", "2024-01-01"),
        ("#fff", "#fff"), ("a #b", "a #b"), ("a: b", "a: b"), ("[1, 2", "[1, 2"), ("x\ny: 1", "x\ny: 1"),
        ("../x", "../x"),
        ("!!python/object/apply:os.system [id]", "!!python/object/apply:os.system [id]"),
    ],
)  # fmt: skip
def test_value_of_an_override_is_what_was_typed(text: str, value: Any) -> None:
    assert config.apply({"x": 0}, [f"x={text}"]) == {"x": value}


@pytest.mark.parametrize(
    ("tokens", "says", "hint"),
    [
        (["optim.lrr=1"], "config has no `optim.lrr`", "did you mean `lr`? (to add a new key: +optim.lrr=1)"),
        (["+optim.lr=1"], "`optim.lr` is already in the config, with the value 0.1", "write ++optim.lr=1"),
        (["~optim.lrr"], "config has no `lrr`", "did you mean `lr`?"),
        (["~optim.lr.x"], "", ""),
        (["optim.lr"], "override `optim.lr` has no `=`", "write key=value"),
        (["optim.lr.deeper=1"], "config has no `optim.lr.deeper`", ""),
        (["+optim.lr.deeper=1"], "", ""),
        (["++optim.lr.deeper=1"], "", ""),
        (["=1"], "", ""),
        (["~"], "", ""),
    ],
)
def test_override_that_cannot_be_is_refused(tokens: list[str], says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.apply({"optim": {"lr": 0.1}}, tokens)
    assert says in str(error.value) and hint in error.value.hint and error.value.hint


def test_adding_and_forcing_and_taking_out() -> None:
    base = {"a": {"b": 1}}
    assert config.apply(base, ["+a.c.d=2"]) == {"a": {"b": 1, "c": {"d": 2}}}
    assert config.apply(base, ["++a.b=2", "++a.e=3"]) == {"a": {"b": 2, "e": 3}}
    assert config.apply(base, ["~a.b"]) == {"a": {}}


def write(directory: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory / "top.yaml"


def test_defaults_are_inherited_depth_first_and_later_ones_win(tmp_path: Path) -> None:
    top = write(
        tmp_path,
        root="x: 1\ny: 1\nz: 1\nlr: 1e-6\n",
        left="defaults: root.yaml\nx: 2\n",
        right="defaults: root.yaml\ny: 3\n",
        top="defaults: [left.yaml, right.yaml]\nz: ${y}\n",
    )
    assert config.load(top) == {"x": 1, "y": 3, "z": 3, "lr": 1e-6}
    assert config.load(top, ["y=5"])["z"] == 5


@pytest.mark.parametrize(
    "texts",
    [
        {"top": "defaults: top.yaml\n"},
        {"top": "defaults: a.yaml\n", "a": "defaults: top.yaml\n"},
        {"top": "defaults: absent.yaml\n"},
        {"top": "defaults: 5\n"},
        {"top": "defaults: [5]\n"},
        {"top": "defaults: {a: b}\n"},
        {"top": "- 1\n"},
        {"top": "a: [1\n"},
        {"top": "a: ${b}\n"},
        {"top": "a: 1\na: 2\n"},
        {"top": "a: &x [*x]\n"},
        {"top": "a: !!python/object/apply:os.getcwd []\n"},
        {"top": "\0"},
        {"top": "a: " + "[" * 5000},
    ],
    ids=str,
)
def test_config_that_cannot_be_read_is_an_error_with_a_way_out(texts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, **texts))
    assert error.value.hint and "\n" not in str(error.value)


@given(CONFIGS)
def test_json_is_read_as_it_is_written(tree: dict[str, Any]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "c.yaml"
        path.write_text(json.dumps(tree))
        assert config.load(path) == tree
