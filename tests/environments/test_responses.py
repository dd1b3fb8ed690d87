"""Between the two forms of a chat nothing may be lost: NeMo Gym's rows come in one, engines take the other."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.core.errors import UserError
from holdfast.environments.responses import chat_messages, chat_tools, output_items, response_object

CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}


def test_a_text_is_what_the_user_says() -> None:
    assert chat_messages("Go.") == [{"role": "user", "content": "Go."}]


def test_the_developer_is_the_system_and_parts_are_joined() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    items: list[dict[str, Any]] = [{"role": "developer", "content": "Be brief."}]
    items += [{"type": "message", "role": "user", "content": parts}]
    assert chat_messages(items) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "ab"}]


def test_calls_and_results_there_and_back() -> None:
    messages = chat_messages([{"role": "assistant", "content": "Well."}, CALL, {**CALL, "call_id": "c2"}, RESULT])
    assert [each["role"] for each in messages] == ["assistant", "tool"] and len(messages[0]["tool_calls"]) == 2
    items = output_items(messages)
    assert [item["type"] for item in items] == ["message", "function_call", "function_call", "function_call_output"]
    assert items[1] == CALL and items[3] == RESULT
    assert chat_messages(items) == messages


def test_a_call_without_words_is_no_empty_message() -> None:
    (message,) = chat_messages([CALL])
    assert message["content"] is None and output_items([message]) == [CALL]
    assert output_items([{"role": "assistant", "content": ""}])[0]["type"] == "message"


def test_reasoning_is_left_out_and_what_no_chat_has_is_refused() -> None:
    assert chat_messages([{"type": "reasoning", "summary": []}, {"role": "user", "content": "Go."}]) == chat_messages(
        "Go."
    )
    with pytest.raises(UserError, match="computer_call"):
        chat_messages([{"type": "computer_call", "id": "x"}])


def test_tools_are_nested_once() -> None:
    flat = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True, "description": None}
    (nested,) = chat_tools([flat])
    assert nested["function"] == {"name": "add", "parameters": {"type": "object"}, "strict": True}
    assert chat_tools([nested]) == [nested] and chat_tools(None) == []


def test_a_response_has_what_servers_require() -> None:
    made = response_object(output_items([{"role": "assistant", "content": "3"}]), usage={"prompt_tokens": 4})
    assert made["output"][0]["content"][0] == {"type": "output_text", "text": "3", "annotations": []}
    assert (
        made["output"][0]["status"] == "completed"
        and made["usage"]["input_tokens"] == made["usage"]["total_tokens"] == 4
    )
