"""How many rollouts may be with the engine at a time: as many as it can use, found out while it works.

A state machine without a clock and without a network. It hears two things. How each call ended: 429, or failures in a
row, make it smaller, once per episode. How loaded the engine says it is (`Load`, from its metrics): a cache that is
nearly full, requests that were preempted or wait make it smaller; while the cache has room and all that is allowed is
in flight, it grows. Without metrics it grows on answers alone, doubling until the first refusal.

The thresholds are those of prime-rl's controller for vLLM (August 2026: cache below 0.6 grows by 1.25, above 0.8 goes
back to 0.7, a preemption takes a fifth), those for refusals are inspect_ai's (a fifth, 15 s of quiet, then 5% a round).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from holdfast.engines.completions import Failure

START = 32
MOST = 1024
ROOMY, FULL, AIM = 0.6, 0.8, 0.7
"""Shares of the cache: below the first it may grow, above the second it goes back to the third."""
GROWTH, SLOW_GROWTH, CUT, SMALL_CUT = 1.25, 1.05, 0.8, 0.9
QUIET = 15.0
"""Seconds after a cut in which nothing changes: what was in flight before it still comes back."""
STALE = 15.0
"""Seconds after which the last word of the engine about its load is too old to grow on."""
CROWDED = 6
"""Looks in a row with a queue of more than half of what runs, after which the queue is no accident."""
IN_A_ROW = 3
BAD = frozenset({Failure.SERVER, Failure.TIMEOUT, Failure.CONNECTION})


@dataclass(frozen=True)
class Bounds:
    """Between which numbers it moves, and where it begins."""

    start: int = START
    most: int = MOST
    least: int = 1


class Load(NamedTuple):
    """What the engines say of themselves: the fullest cache (0 to 1, None where they do not say), requests that run
    and that wait, and how many were preempted since they started.
    """

    cache: float | None
    running: float
    waiting: float
    preempted: float


class Change(NamedTuple):
    """A new number, and why."""

    limit: int
    reason: str


class Gate:
    """`limit` is the number now. All times are seconds of one clock."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self.limit = max(self._bounds.least, min(self._bounds.start, self._bounds.most))
        self._quiet_until = -math.inf
        self._was_refused = False
        self._bad_in_a_row = 0
        self._answers = 0
        self._preempted: float | None = None
        self._crowded = 0
        self._looked = -math.inf

    def hear(self, failure: Failure | None, in_flight: int, now: float) -> Change | None:
        """A call ended; `failure` is None where it was answered."""
        if failure is None:
            self._answers += 1
            self._bad_in_a_row = 0
            return None if self._knows_load(now) else self._grow_on_answers(in_flight, now)
        if failure == Failure.RATE_LIMITED:
            self._was_refused = True
            return self._cut(CUT, "the engine refused a request (429)", now)
        self._bad_in_a_row = self._bad_in_a_row + 1 if failure in BAD else 0
        if self._bad_in_a_row >= IN_A_ROW:
            self._bad_in_a_row = 0
            return self._cut(CUT, f"{IN_A_ROW} calls in a row failed, the last: {failure}", now)
        return None

    def look(self, load: Load | None, in_flight: int, now: float) -> Change | None:
        """The engine was asked how loaded it is; None where it did not say."""
        if load is None:
            return None
        self._looked = now
        preempted = 0.0 if self._preempted is None else max(0.0, load.preempted - self._preempted)
        self._preempted = load.preempted
        self._crowded = self._crowded + 1 if load.waiting > 0.5 * max(load.running, 1.0) else 0
        if preempted:
            return self._cut(CUT, f"the engine preempted {preempted:.0f} requests", now)
        if load.cache is not None and load.cache > FULL:
            share = AIM / load.cache * min(1.0, max(in_flight, 1) / self.limit)
            return self._cut(share, f"the engine's cache is {load.cache:.0%} full", now)
        if self._crowded >= CROWDED:
            self._crowded = 0
            return self._cut(SMALL_CUT, f"{load.waiting:.0f} requests wait in the engine, {load.running:.0f} run", now)
        return self._grow_on_load(load, in_flight, now)

    def _grow_on_load(self, load: Load, in_flight: int, now: float) -> Change | None:
        has_room = load.waiting == 0 and (load.cache is None or load.cache < ROOMY)
        if not has_room or not self._is_used(in_flight, now):
            return None
        cache = "" if load.cache is None else f"the engine's cache is {load.cache:.0%} full, "
        return self._grow(GROWTH, f"{cache}nothing waits, and all {self.limit} are in flight")

    def _grow_on_answers(self, in_flight: int, now: float) -> Change | None:
        if not self._is_used(in_flight, now):
            return None
        return self._grow(SLOW_GROWTH if self._was_refused else 2.0, f"{self._answers} answers without a refusal")

    def _is_used(self, in_flight: int, now: float) -> bool:
        """Whether what is allowed is in flight, and has been once round since the last change."""
        return now >= self._quiet_until and in_flight >= 0.9 * self.limit and self._answers >= self.limit

    def _knows_load(self, now: float) -> bool:
        return now - self._looked <= STALE

    def _grow(self, by: float, reason: str) -> Change | None:
        return self._change(max(self.limit + 1, int(self.limit * by)), reason)

    def _cut(self, by: float, reason: str, now: float) -> Change | None:
        if now < self._quiet_until:
            return None
        self._quiet_until = now + QUIET
        return self._change(min(self.limit - 1, int(self.limit * by)), reason)

    def _change(self, wanted: int, reason: str) -> Change | None:
        self._answers = 0
        limit = max(self._bounds.least, min(wanted, self._bounds.most))
        if limit == self.limit:
            return None
        self.limit = limit
        return Change(limit, reason)
