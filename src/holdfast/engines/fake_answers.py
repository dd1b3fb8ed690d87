"""What the fake engine says: a pure function of (model, prompt, draw), so that any run can be made again.

`draw` is the request's seed, or how often that prompt was asked before; with temperature 0 it counts for nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

PROBLEM = re.compile(r"(-?\d+)\s*([+*x-])\s*(-?\d+)")
STYLES = {"plain": "{}", "boxed": "The answer is \\boxed{{{}}}.", "hashes": "Adding up.\n#### {}", "choice": "({})"}
WORDS = ("one", "then", "two", "so", "that", "it", "follows", "and", "we", "see", "because", "of", "this", "while")
CHARACTERS_PER_TOKEN = 4


class Manner(NamedTuple):
    """`accuracy`: the share of arithmetic problems that are answered right, and of a game's turns that are played well.
    `words`: how many go before the answer. `bad_json`, `bad_tool`: the shares of tool calls that are no JSON, and that
    name a tool which is not there. `endless`: it calls tools and never stops. `calls`: of a tool, before the answer.
    """

    accuracy: float = 1.0
    style: str = "plain"
    words: int = 0
    bad_json: float = 0.0
    bad_tool: float = 0.0
    endless: bool = False
    calls: int = 1


def answer(model: str, prompt: str, draw: int, manner: Manner) -> str:
    """The whole response to a prompt: the last arithmetic problem in it solved, or words."""
    chance = Chance(f"{model}\0{prompt}\0{draw}")
    found = PROBLEM.findall(prompt)
    before = "".join(WORDS[chance.below(len(WORDS))] + " " for _ in range(manner.words))
    if not found:
        return before + " ".join(WORDS[chance.below(len(WORDS))] for _ in range(8))
    right = _solve(*found[-1])
    said = right if chance.share() < manner.accuracy else right + 1 + chance.below(9)
    return before + STYLES[manner.style].format(said)


def _solve(left: str, operation: str, right: str) -> int:
    if operation in "*x":
        return int(left) * int(right)
    return int(left) + int(right) * (1 if operation == "+" else -1)


def count_tokens(text: str) -> int:
    """As a rough tokenizer would."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return Chance(text).share()


class Chance:
    """Numbers that follow from a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._left = b""
        self._block = 0

    def share(self) -> float:
        return self._draw() / 2**32

    def below(self, end: int) -> int:
        return self._draw() * end >> 32

    def _draw(self) -> int:
        if len(self._left) < 4:
            self._left = hashlib.blake2b(self._text.encode("utf-8", "replace"), salt=self._block.to_bytes(8)).digest()
            self._block += 1
        number, self._left = int.from_bytes(self._left[:4]), self._left[4:]
        return number
