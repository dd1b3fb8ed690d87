"""What a model's tool calls are worth before any tool sees them: those that cannot be carried out are answered."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from sys import intern
from typing import Any, NamedTuple

from holdfast.core import near
from holdfast.engines.completions import Completion
from holdfast.environments.episodes import Ended, Message
from holdfast.environments.tool_calls import answer

LONGEST_ECHO = 200
KEPT = ("reasoning_content", "reasoning")
"""What engines with a reasoning parser put beside the content."""


class Sorted(NamedTuple):
    """A message's calls: `good` is the message with those that can be carried out, `refused` answers the others."""

    message: Message
    good: Message
    refused: Mapping[str, Message]
    fault: Ended | None
    asked: int


def sort_calls(completion: Completion, tools: Collection[str], room: int | None, turn: int) -> Sorted:
    """Read a completion of a chat. `tools` are those there are; `room` is how many more calls are allowed.

    `message` has every call with an id of its own, and names and arguments as texts, so that it can be sent back.
    """
    raw = completion.message or {"content": completion.text}
    calls = raw.get("tool_calls")
    asked = [_call(each, turn, place) for place, each in enumerate(calls if isinstance(calls, list) else [])]
    message: dict[str, Any] = {"role": "assistant", "content": completion.text}
    message |= {name: raw[name] for name in KEPT if raw.get(name)}
    good, refused, fault = [], {}, None
    for place, call in enumerate(asked):
        why, says = _trouble(call, tools)
        if room is not None and place >= room:
            why, says = "tool_limit", "not carried out: there were as many calls as are allowed"
        if why is None:
            good.append(call)
        else:
            fault = why
            refused[call["id"]] = answer(call["id"], call["function"]["name"], {"error": says})
    if asked:
        message["tool_calls"] = asked
    kept = {**message, "tool_calls": good} if good else message
    return Sorted(message, kept, refused, None if good or not asked else fault, len(asked))


def in_order(sorted_calls: Sorted, told: list[Message]) -> list[Message]:
    """All answers to a message's calls in the calls' order, then what else was told."""
    answers = {each.get("tool_call_id"): each for each in told if each["role"] == "tool"} | dict(sorted_calls.refused)
    calls = [call["id"] for call in sorted_calls.message.get("tool_calls", ())]
    missing = [answer(each, "", {"error": "no result"}) for each in calls if each not in answers]
    found = [answers[each] for each in calls if each in answers]
    return [*found, *missing, *(each for each in told if each["role"] != "tool")]


def _call(raw: Any, turn: int, place: int) -> dict[str, Any]:
    """A call as OpenAI's API has it. An id of ours: those of engines may repeat from turn to turn."""
    made = raw.get("function") if isinstance(raw, dict) else None
    made = made if isinstance(made, dict) else {}
    name, arguments = made.get("name"), made.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    function = {"name": intern(name) if isinstance(name, str) else "", "arguments": text}
    return {"id": intern(f"call_{turn}_{place}"), "type": "function", "function": function}


def _trouble(call: Mapping[str, Any], tools: Collection[str]) -> tuple[Ended | None, str]:
    """Why a call cannot be carried out, and what the model is told."""
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    if name not in tools:
        close = near.name(name, list(tools))
        hint = f"did you mean {close}?" if close else f"there are {', '.join(tools) or 'none'}"
        return "unknown_tool", f"there is no tool {name!r}; {hint}"
    try:
        found = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        says = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return "bad_tool_json", f"the arguments are not JSON ({says}): {arguments[:LONGEST_ECHO]}"
    if not isinstance(found, dict):
        return "bad_tool_json", f"the arguments must be an object: {arguments[:LONGEST_ECHO]}"
    return None, ""
