"""The puzzles of the published evaluation: sizes and pieces drawn from one seed, 200 of them.

The same numbers as the published `test_examples_200.jsonl`; the words are ours. A puzzle can be played by either
interface, whichever its row was written for.
"""

from __future__ import annotations

import random
from typing import Any, Literal

from holdfast.environments.tool_calls import function

SIZES = ((4, 4), (5, 5), (6, 6), (4, 6), (6, 4), (5, 6), (6, 5), (4, 5), (5, 4))
"""Width and height."""
BOX_TYPES = (0, 1, 2, 3)
Interface = Literal["tools", "text"]
TOOL = function(
    "step",
    "Make moves, one after another. An empty list makes none and shows the board.",
    {
        "actions": {
            "type": "array",
            "items": {"type": "string", "enum": ["Left", "Right", "Down"]},
            "description": 'The moves in their order, for example ["Left", "Down", "Down"].',
        }
    },
    ("actions",),
)
RULES = (
    "You play Tetris on a small board. `_` is an empty cell, `#` a settled one, X the piece, of which only what is on "
    "the board is shown. Pieces neither turn nor fall by themselves: Left and Right shift the piece by one, Down lets "
    "it fall by one. It settles as soon as it rests on the floor or on a settled cell. You win when a row is full; you "
    "lose when a settled cell is in the top row. Every move costs a little."
)
HOW = {
    "tools": "Call the tool `step` with a list of moves, first with an empty list, which shows the board.",
    "text": "Answer with moves as <action>Left</action>, <action>Right</action> or <action>Down</action>; several are "
    "made in their order.",
}
TASK = "Play until a row is full."


def messages(interface: Interface) -> list[dict[str, str]]:
    """What a game begins with, before any board is shown."""
    return [{"role": "system", "content": f"{RULES} {HOW[interface]}"}, {"role": "user", "content": TASK}]


def generate(count: int = 200, seed: int = 42, interface: Interface = "tools") -> list[dict[str, Any]]:
    """The rows of `count` puzzles, in the form of NeMo Gym's prompt sets."""
    draw = random.Random(seed)
    return [_puzzle(number, draw, interface) for number in range(count)]


def _puzzle(number: int, draw: random.Random, interface: Interface) -> dict[str, Any]:
    seed = draw.randint(10_000, 99_999) + 137 * number
    size, box_type = draw.choice(SIZES), draw.choice(BOX_TYPES)
    asked: dict[str, Any] = {"input": messages(interface)}
    if interface == "tools":
        asked["tools"] = [{"type": "function", **TOOL["function"]}]
    where = {"game_id": number + 1, "seed": seed, "dim_board": list(size), "box_type": box_type}
    return {**where, "responses_create_params": asked}
