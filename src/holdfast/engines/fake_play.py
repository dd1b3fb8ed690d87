"""How the fake engine uses tools and plays games: a pure function of the chat, the turn and the draw.

A chat that shows a board of `_`, `#` and `X` is a game of falling pieces: the next moves are found by looking where the
piece comes down lowest (`accuracy` of the turns), or drawn. They are said as a call of the tool that takes `actions`,
otherwise as `<action>` tags. Where a tool takes `actions` and no board is shown yet, an empty list asks for one. Any
other tool is called once (or `calls` times, one after another), with arguments made from its schema and the numbers of
the question, and then the last result is the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from holdfast.engines.fake_answers import Chance, Manner, answer

LINES = re.compile(r"(?:^|(?<=[^_#X]))[_#X]{2,}(?:(?:\\n|\n)[_#X]{2,})+")
NUMBER = re.compile(r"-?\d+")
LEFT, RIGHT, DOWN = "Left", "Right", "Down"


class Said(NamedTuple):
    """A message: text, and calls as (name, arguments in JSON)."""

    text: str
    calls: Sequence[tuple[str, str]] = ()


def reply(
    model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], draw: int, manner: Manner
) -> Said:
    """What is said next in a chat."""
    turn = sum(each.get("role") == "assistant" for each in messages)
    last = str(messages[-1].get("content") or "") if messages else ""
    chance = Chance(f"{model}\0{last}\0{turn}\0{draw}")
    functions = [tool["function"] for tool in tools]
    board = _board(messages)
    game = next((each for each in functions if "actions" in each.get("parameters", {}).get("properties", {})), None)
    if game is not None:
        moves = _moves(board, chance, manner.accuracy) if board else []
        return _called(game["name"], {"actions": moves}, chance, manner)
    if board:
        return Said("".join(f"<action>{move}</action>" for move in _moves(board, chance, manner.accuracy)))
    if functions and (manner.endless or _called_since(messages) < manner.calls):
        return _called(functions[0]["name"], _arguments(functions[0], messages), chance, manner)
    return Said(last if functions else answer(model, last, draw, manner))


def _called_since(messages: Sequence[Mapping[str, Any]]) -> int:
    """Results of tools at the end of the chat, the model's own messages not counted."""
    said = [each.get("role") for each in reversed(messages) if each.get("role") != "assistant"]
    return next((number for number, role in enumerate(said) if role != "tool"), len(said))


def _called(name: str, arguments: Mapping[str, Any], chance: Chance, manner: Manner) -> Said:
    text = json.dumps(arguments)
    if chance.share() < manner.bad_json:
        text = text[:-1]
    if chance.share() < manner.bad_tool:
        name = f"{name}_all"
    return Said("", [(name, text)])


def _arguments(function: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each parameter that is a number the next one in the question; of a text, the question."""
    question = next((str(each.get("content")) for each in messages if each.get("role") == "user"), "")
    numbers = [int(found) for found in NUMBER.findall(question)]
    found: dict[str, Any] = {}
    for name, schema in function.get("parameters", {}).get("properties", {}).items():
        kind = schema.get("type", "string")
        if kind in ("integer", "number"):
            found[name] = numbers.pop(0) if numbers else 0
        else:
            found[name] = {"array": [], "object": {}, "boolean": True}.get(kind, question)
    return found


def _board(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of the last board that was shown."""
    for message in reversed(messages):
        if message.get("role") in ("user", "tool"):
            found = LINES.findall(str(message.get("content") or ""))
            if found:
                return str(found[-1]).replace("\\n", "\n").split("\n")
    return []


def _moves(board: Sequence[str], chance: Chance, accuracy: float) -> list[str]:
    """Shift and drop a piece until it rests."""
    cells = [(x, y) for y, row in enumerate(board) for x, cell in enumerate(row) if cell == "X"]
    if not cells:
        return [DOWN]
    width = len(board[0])
    most_left = -min(x for x, _ in cells)
    most_right = width - 1 - max(x for x, _ in cells)
    falls = {shift: _fall(board, cells, shift) for shift in range(most_left, most_right + 1)}
    best = max(falls, key=lambda shift: (falls[shift], -abs(shift)))
    drawn = most_left + chance.below(most_right - most_left + 1)
    shift = best if chance.share() < accuracy else drawn
    return [LEFT if shift < 0 else RIGHT] * abs(shift) + [DOWN] * max(1, falls[shift])


def _fall(board: Sequence[str], cells: Sequence[tuple[int, int]], shift: int) -> int:
    """How far the piece comes down there."""
    depth = 0
    while all(y + depth + 1 < len(board) and board[y + depth + 1][x + shift] != "#" for x, y in cells):
        depth += 1
    return depth
