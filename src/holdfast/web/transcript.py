"""One row as a page shows it: messages with their tool calls and rewards, whoever wrote the row.

Ours has `messages` and `turns`, or for one turn a prompt and a response as texts. NeMo Gym's has the input of a
Responses request and the items of its output; the document's is the same with the request inside the prompt. Of long
texts only the beginning is sent, with the place (a JSON pointer, RFC 6901) at which the rest can be asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CUT = 64 * 1024
"""Characters of a text that are sent at first."""
MESSAGES = 500
NODES = 50_000
"""Values of nested fields that are sent at most."""
DEEP = 32
PLACED = ("prompt", "response", "messages", "turns", "responses_create_params")
"""Fields with a place of their own on the page; the others are listed."""
Message = dict[str, Any]


def show(row: Mapping[str, Any], start: int = 0) -> dict[str, Any]:
    """What the page gets: `messages` from `start` on (at most 500), and `total` of them."""
    found = list(messages(row))
    turns = row.get("turns")
    bounds = Bounds()
    return {
        "start": start,
        "total": len(found),
        "messages": found[start : start + MESSAGES],
        "turns": bounds.trim(turns) if isinstance(turns, list) else [],
        "given": bounds.trim(_fields_of_prompt(row)),
        "error": bounds.trim(_error(row)),
        "rest": bounds.trim({name: value for name, value in row.items() if name not in PLACED and name != "error"}),
    }


def messages(row: Mapping[str, Any]) -> Iterator[Message]:
    """The conversation, in order."""
    if isinstance(row.get("messages"), list):
        yield from _chat(row["messages"], row.get("turns"))
        return
    yield from _asked(row)
    response = row.get("response")
    if isinstance(response, dict) and isinstance(response.get("output"), list):
        yield from _items(response["output"], "/response/output")
    elif response is not None:
        yield {"role": "assistant", "text": piece(response, "/response")}


def piece(value: Any, at: str) -> dict[str, Any]:
    """A text, or what JSON says of another value; when it is cut, `chars` is its length and `at` where it lies."""
    text = _spell(value)
    return {"text": text} if len(text) <= CUT else {"text": text[:CUT], "chars": len(text), "at": at}


def look_up(row: Any, at: str) -> str:
    """The whole text at a place.

    Raises:
        KeyError: there is nothing.
    """
    for step in at.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        try:
            row = row[int(name)] if isinstance(row, list) and name.isdigit() else row[name]
        except (KeyError, IndexError, TypeError):
            raise KeyError(at) from None
    return _spell(row)


def _spell(value: Any) -> str:
    """A content as text: parts of it that are texts one after another, and the others as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return "\n".join(part["text"] if isinstance(part.get("text"), str) else _dump(part) for part in value)
    return "" if value is None else _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _error(row: Mapping[str, Any]) -> Any:
    """Why there is no reward. A line of our `failures.jsonl` is the failure."""
    if row.get("error") is None and "reward" not in row and "number" in row and "message" in row:
        return {"type": row.get("type"), "message": row["message"]}
    return row.get("error")


def _fields_of_prompt(row: Mapping[str, Any]) -> Any:
    prompt = row.get("prompt")
    if not isinstance(prompt, dict):
        return None
    return {name: value for name, value in prompt.items() if name != "responses_create_params"}


def _chat(content: Sequence[Any], turns: Any) -> Iterator[Message]:
    """OpenAI's form; the n-th turn of the model has the n-th entry of `turns`."""
    turn = 0
    for number, each in enumerate(content):
        at = f"/messages/{number}"
        message = _message(each, at)
        if message["role"] == "assistant":
            message["turn"] = turn
            if isinstance(turns, list) and turn < len(turns) and isinstance(turns[turn], dict):
                message["reward"] = _number(turns[turn].get("reward"))
            turn += 1
        yield message


def _message(each: Any, at: str) -> Message:
    if not isinstance(each, dict):
        return {"role": "?", "text": piece(each, at)}
    message: Message = {"role": str(each.get("role", "?")), "text": piece(each.get("content"), f"{at}/content")}
    for name in ("reasoning_content", "reasoning"):
        if each.get(name):
            message["reasoning"] = piece(each[name], f"{at}/{name}")
    if isinstance(each.get("tool_calls"), list):
        calls = enumerate(each["tool_calls"])
        message["calls"] = [_call(call, f"{at}/tool_calls/{number}") for number, call in calls]
    if isinstance(each.get("name"), str):
        message["name"] = each["name"][:200]
    return message


def _call(call: Any, at: str) -> dict[str, Any]:
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call, at = call["function"], f"{at}/function"
    if not isinstance(call, dict):
        return {"name": "?", "arguments": piece(call, at)}
    return {"name": str(call.get("name", "?"))[:200], "arguments": piece(call.get("arguments"), f"{at}/arguments")}


def _asked(row: Mapping[str, Any]) -> Iterator[Message]:
    """What the model was given."""
    prompt = row.get("prompt")
    for request, at in ((row.get("responses_create_params"), ""), (prompt, "/prompt")):
        if at and isinstance(request, dict):
            request = request.get("responses_create_params")
        if not isinstance(request, dict):
            continue
        at = f"{at}/responses_create_params"
        if request.get("instructions"):
            yield {"role": "system", "text": piece(request["instructions"], f"{at}/instructions")}
        asked = request.get("input")
        if isinstance(asked, list):
            yield from _items(asked, f"{at}/input")
        elif asked is not None:
            yield {"role": "user", "text": piece(asked, f"{at}/input")}
        return
    if isinstance(prompt, list):
        yield from (_message(each, f"/prompt/{number}") for number, each in enumerate(prompt))
    elif isinstance(prompt, str):
        yield {"role": "user", "text": piece(prompt, "/prompt")}


def _items(content: Sequence[Any], at: str) -> Iterator[Message]:
    """Items of OpenAI's Responses form."""
    for number, item in enumerate(content):
        here = f"{at}/{number}"
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "function_call":
            yield {"role": "assistant", "text": piece("", here), "calls": [_call(item, here)]}
        elif kind == "function_call_output":
            output = item.get("output")
            yield {"role": "tool", "text": piece(output, f"{here}/output"), "reward": _reward_in(output)}
        elif kind == "reasoning":
            name = "content" if item.get("content") else "summary"
            yield {"role": "assistant", "text": piece("", here), "reasoning": piece(item.get(name), f"{here}/{name}")}
        elif isinstance(item, dict) and "role" in item:
            yield _message(item, here)
        elif kind in ("text", "output_text"):
            yield {"role": "assistant", "text": piece(item.get("text"), f"{here}/text")}
        else:
            yield {"role": "assistant", "text": piece(item, here)}


def _reward_in(output: Any) -> float | None:
    """The reward of one step, where the answer of a tool says it."""
    if not isinstance(output, str) or len(output) > CUT or '"reward"' not in output:
        return None
    try:
        content = json.loads(output)
    except (ValueError, RecursionError):
        return None
    return _number(content.get("reward")) if isinstance(content, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


class Bounds:
    """Trims nested values to what a page can take: of texts the beginning, of everything at most so many values."""

    def __init__(self, nodes: int = NODES) -> None:
        self._left = nodes

    def trim(self, value: Any, depth: int = 0) -> Any:
        """The same with long texts cut, numbers that JSON lacks as texts, and an ellipsis for what is too much."""
        self._left -= 1
        if self._left < 0 or depth > DEEP:
            return "\N{HORIZONTAL ELLIPSIS}"
        if isinstance(value, str):
            return value if len(value) <= CUT else value[:CUT] + "\N{HORIZONTAL ELLIPSIS}"
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if isinstance(value, int) and abs(value) > 2**53:
            return str(value) if abs(value) < 2**256 else "a huge number"
        if isinstance(value, dict):
            return {str(name)[:1000]: self.trim(each, depth + 1) for name, each in value.items() if self._left > 0}
        if isinstance(value, list):
            return [self.trim(each, depth + 1) for each in value if self._left > 0]
        return value
