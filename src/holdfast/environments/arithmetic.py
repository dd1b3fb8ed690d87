"""Sums, differences and products, generated from a seed: as many problems as one wants, with neither data nor network.

A problem's id is the expression itself, `348-17*4`, so that its answer is known from it, and the same problem drawn
with other settings is the same prompt.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from holdfast.core.errors import ConfigError
from holdfast.environments import Environment, Grade, Prompt, Settings
from holdfast.verifiers import load_verifier

PARTS = re.compile(r"\d+|[-+*]")
STALE = 1000
"""Draws in a row that bring nothing new, after which there is nothing new."""


class ArithmeticSettings(Settings):
    """Which expressions. A larger `count` contains the smaller one."""

    digits: int = Field(3, ge=1, le=12)
    """Of the longest number; all lengths are equally likely."""
    operators: tuple[Literal["+", "-", "*"], ...] = Field(("+", "-"), min_length=1)
    terms: int = Field(2, ge=2, le=8)
    """Numbers in an expression."""
    format: Literal["chat", "raw"] = "chat"
    """A question that is answered in words, its last number counting; or raw text, `12+7=`, that goes on with the
    number and nothing else."""
    count: int = Field(256, ge=1)
    seed: int = 0


class Arithmetic(Environment):
    name = "arithmetic"
    max_tokens = 256
    Settings: ClassVar[type[Settings]] = ArithmeticSettings

    def identity(self) -> dict[str, Any]:
        verifier = load_verifier(self.verifier)
        graded = {"name": verifier.name, "version": verifier.version}
        return {**super().identity(), "prompt": {"format": self.settings.format}, "verifier": graded}

    def choice(self) -> dict[str, Any]:
        return {key: value for key, value in super().choice().items() if key != "format"}

    @property
    def verifier(self) -> str:
        return "gsm8k" if self.settings.format == "chat" else "exact"

    def prompts(self) -> list[Prompt]:
        return self._chosen

    @cached_property
    def _chosen(self) -> list[Prompt]:
        # By a digest and not by the seed itself: what Python makes of a seed may change, its generator does not.
        state = f"{self.settings.seed}:{self.settings.digits}:{self.settings.terms}:{self.settings.operators}"
        draw = random.Random(int.from_bytes(hashlib.sha256(state.encode()).digest()))
        found: dict[str, None] = {}
        stale = 0
        while len(found) < self.settings.count:
            problem = self._draw(draw)
            stale = stale + 1 if problem in found else 0
            found[problem] = None
            if stale == STALE:
                raise ConfigError(
                    f"environment arithmetic has about {len(found)} such problems, wanted {self.settings.count}",
                    "more `digits`, `terms` or `operators`, or a smaller `count`",
                )
        return [self._prompt(problem) for problem in found]

    def _draw(self, draw: random.Random) -> str:
        def number() -> str:
            length = 1 + int(draw.random() * self.settings.digits)
            low = 10 ** (length - 1) if length > 1 else 0
            return str(low + int(draw.random() * (10**length - low)))

        operators = self.settings.operators
        rest = [operators[int(draw.random() * len(operators))] + number() for _ in range(self.settings.terms - 1)]
        return number() + "".join(rest)

    def _prompt(self, problem: str) -> Prompt:
        if self.settings.format == "raw":
            return Prompt(problem, f"{problem}=")
        text = f"What is {' '.join(PARTS.findall(problem))}? Give the number alone."
        return Prompt(problem, text, ({"role": "user", "content": text},))

    def solution(self, prompt_id: str) -> str:
        return str(value(prompt_id))

    def reward(self, prompt_id: str, completion: str) -> float:
        return self.grade(prompt_id, completion).reward

    def grade(self, prompt_id: str, completion: str) -> Grade:
        return load_verifier(self.verifier).grade(completion, self.solution(prompt_id))


def value(expression: str) -> int:
    """280 for `348-17*4`: products first, then from the left."""
    total, product, sign = 0, 1, 1
    for part in PARTS.findall(expression):
        if part in "+-":
            total, product, sign = total + sign * product, 1, 1 if part == "+" else -1
        elif part != "*":
            product *= int(part)
    return total + sign * product
