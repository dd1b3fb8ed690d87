"""Between OpenAI's two forms of a chat: messages (`/v1/chat/completions`), which engines take, and the items of the
Responses API, which NeMo Gym's rows and servers have.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core.errors import UserError

Item = dict[str, Any]
ROLES = {"developer": "system"}
"""Chat templates know no developer."""


def chat_messages(items: str | Sequence[Mapping[str, Any]]) -> list[Item]:
    """The `input` of a request as messages.

    Raises:
        UserError: an item is none that a chat can have.
    """
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    found: list[Item] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            _add_call(found, item)
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": str(item["output"])})
        elif kind == "message" and "role" in item:
            role = str(item["role"])
            found.append({"role": ROLES.get(role, role), "content": _text(item.get("content"))})
        elif kind != "reasoning":
            raise UserError(f"`input` has an item that no chat has: {str(dict(item))[:100]}", "correct the row")
    return found


def chat_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[Item]:
    """Tools as chats have them; those that already are, stay."""
    return [dict(tool) if "function" in tool else _nested(tool) for tool in tools or ()]


def output_items(messages: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Messages as items: texts, tool calls and their results, in order."""
    found: list[Item] = []
    for message in messages:
        content = message.get("content")
        if message["role"] == "tool":
            found.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": content})
            continue
        calls = message.get("tool_calls") or ()
        if content or not calls:
            found.append(_message(message["role"], content or ""))
        for call in calls:
            made = call["function"]
            named = {"name": made["name"], "arguments": made["arguments"]}
            found.append({"type": "function_call", "call_id": call["id"], **named})
    return found


def response_object(
    output: Sequence[Mapping[str, Any]], model: str = "", usage: Mapping[str, int] | None = None
) -> Item:
    """What `/v1/responses` would have answered, with all that NeMo Gym's servers require of one."""
    counts = usage or {}
    sizes = {"input_tokens": counts.get("prompt_tokens", 0), "output_tokens": counts.get("completion_tokens", 0)}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": "holdfast",
        "object": "response",
        "created_at": 0,
        "model": model,
        "output": [_complete(item, number) for number, item in enumerate(output)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {**sizes, **details, "total_tokens": sum(sizes.values())},
    }


def _add_call(found: list[Item], item: Mapping[str, Any]) -> None:
    call = {
        "id": item["call_id"],
        "type": "function",
        "function": {"name": item["name"], "arguments": item["arguments"]},
    }
    if found and found[-1]["role"] == "assistant":
        found[-1].setdefault("tool_calls", []).append(call)
    else:
        found.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _nested(tool: Mapping[str, Any]) -> Item:
    inner = {name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": inner}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping))


def _message(role: str, content: str) -> Item:
    if role == "assistant":
        return {"type": "message", "role": role, "content": [{"type": "output_text", "text": content}]}
    return {"type": "message", "role": role, "content": content}


def _complete(item: Mapping[str, Any], number: int) -> Item:
    """With the fields that are required of the model's own items, and say nothing."""
    if item["type"] == "message" and item["role"] == "assistant":
        texts = [{**part, "annotations": []} for part in item["content"]]
        return {**item, "content": texts, "id": f"msg_{number}", "status": "completed"}
    return dict(item)
