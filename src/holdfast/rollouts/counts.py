"""How a collection goes: what is done and owed, how fast, and what fails."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

WINDOW = 60.0
"""Seconds over which rates are taken."""


@dataclass
class Counts:
    """`done` of `wanted` are durable, `before` of them were so when the attempt began. `failed` counts this attempt's
    failures by type, `tokens` those of responses that it got.
    """

    wanted: int
    before: int = 0
    done: int = 0
    in_flight: int = 0
    tokens: int = 0
    retried: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.done = self.before
        self.tick()

    @property
    def owed(self) -> int:
        return self.wanted - self.done

    def tick(self) -> None:
        """Note where we are, for the rates."""
        now = time.monotonic()
        self._seen.append((now, self.done, self.tokens))
        while now - self._seen[0][0] > WINDOW and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Responses a second."""
        return self._per_second(1)

    @property
    def token_rate(self) -> float:
        """Generated tokens a second."""
        return self._per_second(2)

    @property
    def seconds_left(self) -> float | None:
        """None where nothing came lately."""
        return self.owed / self.rate if self.rate else None

    def as_progress(self) -> dict[str, Any]:
        """What `line` says, for whoever watches from outside."""
        return {
            "rate": self.rate,
            "token_rate": self.token_rate,
            "seconds_left": self.seconds_left,
            "in_flight": self.in_flight,
            "failed": dict(self.failed),
        }

    def line(self) -> str:
        """One line for a person: done, owed, rates, time left, failures by type."""
        left = "" if self.seconds_left is None else f", {self.seconds_left:,.0f} s left"
        failed = "".join(f", {count} {kind}" for kind, count in sorted(self.failed.items()))
        rates = f"{self.rate:.1f}/s, {self.token_rate:,.0f} tokens/s"
        return f"{self.done:,} of {self.wanted:,} done, {self.owed:,} owed, {rates}{left}{failed}"

    def _per_second(self, index: int) -> float:
        first, last = self._seen[0], self._seen[-1]
        seconds = last[0] - first[0]
        return (last[index] - first[index]) / seconds if seconds > 0 else 0.0
