"""A model's calls are sorted before any tool sees them: each is answered once, in its order, under an id of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.engines.completions import Completion
from holdfast.rollouts.tool_use import Sorted, in_order, sort_calls


def call(name: Any, arguments: Any, identity: str = "same") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def sort(*calls: Any, room: int | None = None, text: str = "") -> Sorted:
    message = {"role": "assistant", "content": text, "tool_calls": list(calls)}
    return sort_calls(Completion(text, "tool_calls", {}, message), ["add", "show"], room, 3)


def test_good_calls_reach_the_environment_and_bad_ones_are_answered_in_their_place() -> None:
    found = sort(call("add", '{"a": 1}'), call("add", '{"a": '), call("sub", "{}"), call("show", ""))
    assert [each["function"]["name"] for each in found.good["tool_calls"]] == ["add", "show"] and found.fault is None
    ids = [each["id"] for each in found.message["tool_calls"]]
    assert ids == ["call_3_0", "call_3_1", "call_3_2", "call_3_3"], "engines repeat theirs"
    told = in_order(found, [{"role": "tool", "tool_call_id": each, "content": "ok"} for each in (ids[3], ids[0])])
    assert [each["tool_call_id"] for each in told] == ids
    assert [("error" in each["content"]) for each in told] == [False, True, True, False]


@pytest.mark.parametrize("arguments", ["{", '["a"]', "3", "nonsense", '{"a": 1}}', "[" * 100_000])
def test_arguments_that_are_no_object_are_the_models_fault(arguments: str) -> None:
    found = sort(call("add", arguments))
    assert found.fault == "bad_tool_json" and found.asked == 1
    (told,) = in_order(found, [])
    assert len(told["content"]) < 1000 and json.loads(told["content"])["error"]


def test_an_unknown_tool_is_told_with_those_that_there_are() -> None:
    found = sort(call("ad", "{}"), call("x", "{}"))
    assert found.fault == "unknown_tool"
    said = [each["content"] for each in in_order(found, [])]
    assert "did you mean add" in said[0] and "there are add, show" in said[1]


def test_calls_beyond_the_limit_are_not_carried_out() -> None:
    found = sort(call("add", "{}"), call("add", "{}"), call("add", "{}"), room=2)
    assert len(found.good["tool_calls"]) == 2 and found.asked == 3 and len(in_order(found, [])) == 3
    assert sort(call("add", "{}"), room=0).fault == "tool_limit"


@pytest.mark.parametrize("odd", [None, "add", {"function": None}, {"function": {"name": 3}}, {}])
def test_what_is_no_call_at_all_is_an_unknown_tool(odd: Any) -> None:
    found = sort(odd)
    assert found.fault == "unknown_tool" and found.message["tool_calls"][0]["function"]["name"] == ""


def test_arguments_that_an_engine_has_parsed_already_are_taken() -> None:
    assert json.loads(sort(call("add", {"a": 1})).good["tool_calls"][0]["function"]["arguments"]) == {"a": 1}


def test_words_without_calls_are_a_message() -> None:
    found = sort_calls(Completion("Well.", "stop", {}, {"role": "assistant", "content": "Well."}), [], None, 0)
    assert found.good == found.message == {"role": "assistant", "content": "Well."} and found.asked == 0


def test_reasoning_is_kept_for_the_row() -> None:
    message = {"role": "assistant", "content": "3", "reasoning_content": "1 and 2"}
    assert sort_calls(Completion("3", "stop", {}, message), [], None, 0).message["reasoning_content"] == "1 and 2"


def test_a_call_that_the_environment_forgot_is_answered() -> None:
    found = sort(call("add", "{}"))
    told = in_order(found, [{"role": "user", "content": "Go on."}])
    assert [each["role"] for each in told] == ["tool", "user"] and "no result" in told[0]["content"]
