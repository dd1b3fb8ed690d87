"""Gives an account of one stage: how it stands, what every attempt came to, the lines that matter, and what to type
next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from holdfast.core import attempt, files
from holdfast.core.attempt import Claim
from holdfast.core.plan import Reader, Standing, State
from holdfast.core.stage import short
from holdfast.core.store import Record, Store
from holdfast.execute.diagnosis import telling_lines

NEXT = {
    State.OWED: "holdfast run {name}",
    State.LOST: "holdfast run {name} --rebuild",
    State.OUTDATED: "holdfast run {name} --rebuild",
    State.STALE: "holdfast run {name} --rebuild",
    State.RUNNING: "holdfast logs -f {name}",
    State.QUEUED: "holdfast status --watch",
}


@dataclass(frozen=True)
class Account:
    """`history` has a line per attempt, oldest first; `lines` are the last attempt's own words."""

    standing: Standing
    inputs: dict[str, str]
    history: list[dict[str, Any]]
    lines: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {**self.standing.as_dict(), "inputs": self.inputs, "attempts": self.history, "lines": self.lines}

    def text(self) -> str:
        record, state = self.standing.record, self.standing.state
        parts = [
            f"{record.name} ({record.stage.kind}, key {short(record.key)}) is {state}"
            + (f": {self.standing.reason}" if self.standing.reason else "")
        ]
        parts += [f"  input {name}: {where}" for name, where in self.inputs.items()]
        parts += [
            f"  attempt {each['attempt']}: {each['outcome']}, {each['after']} {each['reason']}".rstrip()
            for each in self.history
        ]
        if self.lines:
            parts += ["", "its last words:", *(f"  | {line}" for line in self.lines)]
        if state in NEXT:
            parts += ["", f"next: {NEXT[state].format(name=record.home)}"]
        return "\n".join(parts)


def account(store: Store, record: Record) -> Account:
    """The account of one stage."""
    reader = Reader(store)
    standing = reader.standing(record)
    claims = attempt.every(store.attempts(record.key))
    words = telling_lines(files.read_tail(claims[-1].output)) if claims and standing.state is not State.COMPLETE else []
    inputs = {name: _input(reader, ref) for name, ref in record.stage.inputs.items()}
    return Account(standing, inputs, [_outcome(claim) for claim in claims], words)


def _input(reader: Reader, ref: Any) -> str:
    home = reader.home_of(ref)
    return f"{home or short(ref.key)}" + ("" if reader.digest(ref) else " (not complete)")


def _outcome(claim: Claim) -> dict[str, Any]:
    ending = claim.ending()
    finished = ending["finished"] if ending else time.time()
    return {
        "attempt": claim.n,
        "outcome": ending["outcome"] if ending else "no exit record",
        "reason": ending["reason"] if ending else "",
        "after": f"{max(0.0, finished - claim.started):.0f} s",
        "host": claim.owner.host,
    }
