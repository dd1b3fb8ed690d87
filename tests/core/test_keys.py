"""A key says exactly what is wanted: it changes with every param, and with nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import kind
from holdfast.core.errors import ConfigError
from holdfast.core.kind import Kind, added
from holdfast.core.record import Record
from holdfast.core.stage import Ref, Stage, canonical
from holdfast.core.store import Store

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé.", max_size=4), inner, max_size=4),
)
PARAMS = st.dictionaries(st.text("abcdefg", min_size=1, max_size=5), VALUES, max_size=6)


class PlainParams(kind.Params):
    steps: int
    rate: float = 1e-6
    tags: tuple[str, ...] = ()


class Plain(Kind):
    name = "plain"
    inputs = ("model",)
    Params = PlainParams


class GrownParams(PlainParams):
    warm_up: int = added(0, as_before=0)
    clip: float | None = added(0.2, as_before=None)


class Grown(Kind):
    name = "plain"
    inputs = ("model",)
    Params = GrownParams


def reverse(value: Any) -> Any:
    """The same value with the keys of all mappings the other way round."""
    if isinstance(value, dict):
        return {key: reverse(value[key]) for key in reversed(list(value))}
    return [reverse(each) for each in value] if isinstance(value, list) else value


@given(PARAMS)
def test_order_of_keys_is_not_identity(params: dict[str, Any]) -> None:
    assert Stage("k", 1, params).key == Stage("k", 1, reverse(params)).key


@given(PARAMS, PARAMS)
def test_different_params_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Stage("k", 1, one).key == Stage("k", 1, other).key) is same


@given(PARAMS, st.sampled_from(["kind", "version", "inputs"]))
def test_kind_version_and_inputs_are_identity(params: dict[str, Any], changed: str) -> None:
    other = {
        "kind": Stage("l", 1, params),
        "version": Stage("k", 2, params),
        "inputs": Stage("k", 1, params, {"x": Ref("a" * 64)}),
    }[changed]
    assert Stage("k", 1, params).key != other.key


@given(PARAMS)
def test_stage_file_describes_the_same_key(params: dict[str, Any]) -> None:
    stage = Stage("k", 3, params, {"a": Ref("a" * 64), "b": Ref("b" * 64, "steps/step_1")})
    assert Stage.from_dict(json.loads(json.dumps(stage.as_dict()))).key == stage.key


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.lists(SCALARS, max_size=2))
def test_what_is_no_number_has_no_key(value: float, before: list[Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be part of a stage's identity"):
        canonical({"rate": [*before, value]})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_keeps_its_identity_through_a_file(value: float) -> None:
    written = json.loads(json.dumps({"rate": value}))
    assert canonical({"rate": value}) == canonical(written)


@given(st.integers(0, 10**6), st.floats(1e-9, 1.0))
def test_param_added_later_leaves_old_keys_as_they_were(steps: int, rate: float) -> None:
    params, inputs = {"steps": steps, "rate": rate}, {"model": Ref("m" * 64)}
    before = Plain().stage(params, inputs)
    after = Grown().stage({**params, "clip": None}, inputs)
    assert dict(after.params) == dict(before.params)
    assert Grown().stage({**params, "clip": None, "warm_up": 1}, inputs).params != before.params
    assert Grown().stage(params, inputs).params != before.params, "a new default is a change of meaning"


def test_whole_number_where_a_float_is_wanted_is_the_same_number() -> None:
    inputs = {"model": Ref("m" * 64)}
    assert Plain().stage({"steps": 1, "rate": 1}, inputs).key == Plain().stage({"steps": 1, "rate": 1.0}, inputs).key


@pytest.mark.parametrize(
    ("params", "says", "hint"),
    [
        ({"stepz": 1}, "kind plain has no `stepz`", "did you mean `steps`?"),
        ({"steps": "5"}, "steps is '5'", "correct `steps`"),
        ({}, "kind plain needs steps", "add `steps: ...`"),
        ({"steps": True}, "steps is True", "correct `steps`"),
        ({"steps": 1, "rate": math.nan}, "not JSON compliant", ""),
    ],
)
def test_wrong_param_is_named_with_what_was_meant(params: Mapping[str, Any], says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        assert Plain().stage(params, {"model": Ref("m" * 64)}).key
    assert says.lower() in str(error.value).lower() and hint in error.value.hint


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ConfigError, match=r"has inputs \['model'\], given \['modell'\]"):
        Plain().stage({"steps": 1}, {"modell": Ref("m" * 64)})


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=120))
def test_binding_of_any_home_is_one_short_file_name_of_its_own(home: str) -> None:
    store = Store(Path("/root-of-runs"))
    binding = store.binding(home)
    assert binding.parent == store.homes and len(binding.name.encode()) <= 255
    assert store.binding(home + "x").name != binding.name


def test_record_keeps_its_key_whatever_its_name_home_and_placement() -> None:
    stage = Stage("k", 1, {"a": 1})
    assert Record(stage, "a", "a").key == Record(stage, "b", "c/d", {"gpus": 8}).key
