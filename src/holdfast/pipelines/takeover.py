"""Sees a stage through to its result, whoever is at it: many who want the same wait for one, and one of them takes over
when that one dies.

A verdict (the checkpoint is damaged, the disk is full) holds for all who wait: what failed by itself would fail again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from holdfast.core import attempt, files, generations
from holdfast.core.attempt import Claim
from holdfast.core.job import stop_reason
from holdfast.core.plan import IN_FLIGHT, Plan, Reader, Standing, State
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.execute.submit import Executor, Placement, Submission, submit
from holdfast.execute.supervisor import HELD

MOST_DEATHS = 3
"""Attempts that died since we began to wait, and jobs of ours that ended before they began: then a person must look."""

Look = Callable[[], Sequence[Standing]]


@dataclass
class Pulse:
    """How long the heartbeat of an attempt has not changed, on our own clock."""

    claim: str = ""
    beat: bytes = b""
    since: float = 0.0

    def is_still(self, claim: Claim, seconds: float) -> bool:
        now, beat = time.monotonic(), files.read_tail(claim.heartbeat)
        if (self.claim, self.beat) != (claim.token, beat):
            self.claim, self.beat, self.since = claim.token, beat, now
        return now - self.since >= seconds

    def reset(self) -> None:
        self.claim = ""


@dataclass
class Takeover:
    """A stage that is wanted. `force`: made once more, and a result that was there at the start does not count."""

    plan: Plan
    record: Record
    store: Store
    executor: Executor
    placement: Placement
    force: bool = False
    pulse: Pulse = field(default_factory=Pulse)

    def __post_init__(self) -> None:
        self.home = self.store.home(self.record)
        self.before = generations.current(self.home)
        self.first = attempt.highest(self.store.attempts(self.record.key))
        self.submitted = 0

    def see_through(self, watch: Callable[[Look], None], say: Callable[[Submission], None]) -> Standing:
        """Submit the stage where it is owed, and `watch` it until it is complete or will not be; how it stands then.
        `say` is told of each submission that took it, and of the first.

        Raises:
            UserError: as `submit`.
        """
        is_first = True
        while True:
            done = submit(self.plan, self.store, self.executor, self.placement, self._again())
            self.submitted += bool(done.taken)
            if is_first or done.taken:
                say(done)
            is_first = False
            self.pulse.reset()
            watch(self._look)
            standing = self._standing()
            if not self._is_to_be_taken(standing):
                return standing

    def _again(self) -> set[str]:
        state = Reader(self.store, self.plan).standing(self.record).state
        is_old = self.force and state not in IN_FLIGHT and generations.current(self.home) == self.before
        return {self.record.key} if is_old or state is State.EVICTED else set()

    def _standing(self) -> Standing:
        reader = Reader(self.store, self.plan)
        found = reader.standing(self.record)
        if self.force and found.state is State.COMPLETE and generations.current(self.home) == self.before:
            return reader.without_result(self.record)
        return found

    def _look(self) -> list[Standing]:
        """As it stands; one whom nobody here can see, and who falls silent, is as good as gone: whoever is submitted
        next watches for a full silence before it takes over.
        """
        standing = self._standing()
        seconds = self.placement.silence / 2
        if standing.unseen and standing.claim and self.pulse.is_still(standing.claim, seconds):
            reason = f"{standing.reason}, and has not been heard of for {seconds:.0f} s"
            return [replace(standing, state=State.OWED, reason=reason)]
        return [standing]

    def _is_to_be_taken(self, standing: Standing) -> bool:
        if standing.state in IN_FLIGHT:
            return True
        if standing.state not in (State.OWED, State.EVICTED) or self._has_died_often():
            return False
        return standing.state is State.EVICTED or _was_ended_from_outside(self.store, self.record.key)

    def _has_died_often(self) -> bool:
        deaths = attempt.highest(self.store.attempts(self.record.key)) - self.first
        return max(deaths, self.submitted) >= MOST_DEATHS


def is_left_behind(standing: Standing, store: Store) -> bool:
    """Whether nobody is at it any more, and whoever was last came to no verdict."""
    return standing.state is State.OWED and _was_ended_from_outside(store, standing.record.key)


def _was_ended_from_outside(store: Store, key: str) -> bool:
    """Whether whoever was at it last came to no verdict, and no person asked for an end."""
    place, last = attempt.newest(store.queued(key)), attempt.newest(store.attempts(key))
    was_held = place is not None and (place.ending() or {}).get("code") == HELD
    is_begun = last is not None and (place is None or was_held or place.job == last.job)
    claim = last if is_begun else place
    ending = claim.ending() if claim else None
    if claim is None or ending is None:
        return True
    if stop_reason(store.job(claim.job), key) is not None:
        return False
    code = ending.get("code")
    was_killed = ending["outcome"] == "failed" and isinstance(code, int) and code < 0
    return was_killed or ending["outcome"] in ("died", "silent", "taken over", "stopped", "cancelled", "dropped")
