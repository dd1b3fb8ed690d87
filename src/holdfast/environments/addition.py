"""Addition of two two-digit numbers: small enough that a model of 0.6M parameters really learns it on a laptop.

A prompt is `37+58=`, its answer `95` and the end of the text. The 8,100 ordered problems are split once and for all
by a digest of the unordered pair, so `58+37` is never trained on where `37+58` is held out.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from holdfast.environments import Environment, Prompt, Settings

HELD_OUT_SHARE = 0.1
NUMBERS = range(10, 100)


class AdditionSettings(Settings):
    """Which of the problems. A larger `count` with the same seed contains the smaller one."""

    split: Literal["train", "held_out"] = "held_out"
    count: int | None = Field(None, ge=1)
    """How many of the split; None is all of it."""
    seed: int = 0
    """Draws which ones, and their order."""


class Addition(Environment):
    name = "addition"
    max_tokens = 5
    Settings: ClassVar[type[Settings]] = AdditionSettings

    def prompts(self) -> list[Prompt]:
        return self._chosen

    @cached_property
    def _chosen(self) -> list[Prompt]:
        chosen: Any = self.settings
        ids = [problem for problem in problems() if is_held_out(problem) == (chosen.split == "held_out")]
        ids.sort(key=lambda problem: _digest(f"{chosen.seed}:{problem}"))
        return [Prompt(problem, f"{problem}=") for problem in ids[: chosen.count]]

    def reward(self, prompt_id: str, completion: str) -> float:
        return float(completion == answer(prompt_id))


def problems() -> list[str]:
    """All problems, `10+10` to `99+99`."""
    return [f"{left}+{right}" for left in NUMBERS for right in NUMBERS]


def answer(problem: str) -> str:
    """`95` for `37+58`."""
    left, _, right = problem.partition("+")
    return str(int(left) + int(right))


def is_held_out(problem: str) -> bool:
    """Whether this problem is only for evaluation: the same for both orders of its numbers, on every machine."""
    pair = "+".join(sorted(problem.split("+")))
    return _digest(pair) < HELD_OUT_SHARE


def _digest(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
