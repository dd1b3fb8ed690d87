"""Gives an account of one stage: how it stands, what every attempt came to, the lines that matter, and what to type
next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import artifact, attempt, files, near
from holdfast.core.artifact import Manifest
from holdfast.core.attempt import Claim
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.plan import IN_FLIGHT, Reader, Standing, State
from holdfast.core.record import Record
from holdfast.core.stage import Ref, short
from holdfast.core.store import ADOPTED, Store
from holdfast.execute import outsiders, sbatch
from holdfast.execute.diagnosis import telling_lines
from holdfast.execute.scheduler import SlurmScheduler

PLAN = "holdfast run PLAN"
LAUNCH = "the command that launched it, once more"
NEXT = {
    State.OWED: "holdfast run {name}",
    State.LOST: "holdfast run {name} --rebuild",
    State.OUTDATED: "holdfast run {name} --rebuild",
    State.STALE: "holdfast run {name} --rebuild",
    State.RUNNING: "holdfast logs -f {name}",
    State.QUEUED: "holdfast status --watch",
}


@dataclass(frozen=True)
class Input:
    """One input as it is now. `next` is what to type about it before anything else, empty if it is there."""

    text: str
    next: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """`history` has a line per attempt, oldest first; `lines` are the last attempt's own words; `next` are commands."""

    standing: Standing
    inputs: dict[str, str]
    history: list[dict[str, Any]]
    lines: list[str]
    next: list[str]

    def as_dict(self) -> dict[str, Any]:
        said = {"inputs": self.inputs, "attempts": self.history, "lines": self.lines, "next": self.next}
        return {**self.standing.as_dict(), **said}

    def text(self) -> str:
        """All of it but what to type next."""
        record, state = self.standing.record, self.standing.state
        parts = [
            f"{record.name} ({record.stage.kind}, key {short(record.key)}) is {state}"
            + (f": {self.standing.reason}" if self.standing.reason else "")
        ]
        parts += [f"  input {name}: {where}" for name, where in self.inputs.items()]
        parts += [
            f"  attempt {each['attempt']}: {each['outcome']}"
            + (f" after {each['after']}" if each["after"] else "")
            + (f": {each['reason']}" if each["reason"] else "")
            for each in self.history
        ]
        if self.lines:
            parts += ["", "its last words:", *(f"  | {line}" for line in self.lines)]
        return "\n".join(parts)


def account(store: Store, record: Record) -> Account:
    """The account of one stage."""
    reader = Reader(store)
    standing = reader.standing(record)
    history = list(_history(store, standing))
    inputs = {name: _input(reader, standing, ref) for name, ref in record.stage.inputs.items()}
    words = telling_lines(files.read_tail(_last_output(store, record))) if standing.state is not State.COMPLETE else []
    texts = {name: each.text for name, each in inputs.items()}
    return Account(standing, texts, history, words, _next(standing, list(inputs.values())))


def _last_output(store: Store, record: Record) -> Path:
    """What the newest attempt printed, or the job that was to begin one and did not."""
    sequence = store.attempts(record.key)
    if attempt.highest(sequence) == 0 and isinstance(store.scheduler, SlurmScheduler):
        place = attempt.newest(store.queued(record.key))
        name = store.scheduler.task_name(store.job(place.job), record.key) if place else None
        if place and name:
            return store.job(place.job) / sbatch.log_name(name)
    return attempt.nameless(sequence, attempt.highest(sequence)).output


def _next(standing: Standing, inputs: list[Input]) -> list[str]:
    """What to type: first about inputs that keep the stage from running, then about itself."""
    name, state = standing.record.home, standing.state
    if state is State.RUNNING and standing.claim is None:
        return [f"holdfast cancel --declare-dead {name}"]
    before = [command for each in inputs for command in each.next] if state is State.OWED else []
    itself = [NEXT[state].format(name=name)] if state in NEXT else []
    if standing.reason.endswith(outsiders.LAUNCH_AGAIN):
        return [LAUNCH]
    # What waits for another stage is not run by its own name: the plan runs both.
    after = [PLAN] if any("--rerun" not in command for command in before) else itself
    return list(dict.fromkeys([*before, *after]))


def _input(reader: Reader, standing: Standing, ref: Ref) -> Input:
    record = reader.record_of(ref)
    if record is None:
        return Input(f"{short(ref.key)} (unknown here: plan the stage that makes it, too)", (PLAN,))
    home = reader.store.home(record) / ref.path
    if record.stage.kind == ADOPTED:
        return Input(str(home)) if reader.digest(ref) else Input(f"{home} (not there any more)", (PLAN,))
    manifest = artifact.holds(home, ref.key, ref.path)
    if manifest is None:
        return _absent_input(reader, record, ref, str(home))
    # Its files are looked at only where that can be the reason: there may be many.
    problems = artifact.verify(home, manifest, digests=False) if standing.state is State.OWED else []
    if not problems:
        return Input(str(home))
    return Input(f"{home} (damaged: {'; '.join(problems[:3])})", (_again(record),))


def _absent_input(reader: Reader, supplier: Record, ref: Ref, home: str) -> Input:
    """An input without a manifest of its own: its supplier is not done, or has nothing of that name, or lost it."""
    standing = reader.standing(supplier)
    if standing.state is not State.COMPLETE or not ref.path:
        why = "" if standing.state in IN_FLIGHT else f": {standing.reason}"
        return Input(
            f"{home} (not complete: {supplier.name} is {standing.state}{why})", (f"holdfast why {supplier.home}",)
        )
    there = _inner(artifact.holds(reader.store.home(supplier), supplier.key))
    if ref.path in there:
        return Input(f"{home} (damaged: it has no valid manifest any more)", (_again(supplier),))
    return Input(
        f"{home} ({supplier.name} is complete and has no such artifact; it has: {near.listed(there)})", (PLAN,)
    )


def _inner(manifest: Manifest | None) -> list[str]:
    return [str(each.get("path")) for each in manifest.content.get("inner", [])] if manifest else []


def _again(supplier: Record) -> str:
    return f"holdfast run {supplier.home} --rerun {supplier.home}"


def _history(store: Store, standing: Standing) -> Iterator[dict[str, Any]]:
    sequence = store.attempts(standing.record.key)
    for n in range(1, attempt.highest(sequence) + 1):
        try:
            yield _outcome(attempt.read(sequence, n), standing)
        except (DamagedFile, UnreadableFile) as error:
            yield {"attempt": n, "outcome": "cannot be read", "reason": str(error), "after": "", "host": ""}


def _outcome(claim: Claim, standing: Standing) -> dict[str, Any]:
    ending = claim.ending()
    running = ending is None and standing.state in IN_FLIGHT and standing.attempt == claim.n
    until = ending["finished"] if ending else time.time() if running else _last_sign(claim)
    return {
        "attempt": claim.n,
        "outcome": ending["outcome"] if ending else "running" if running else "died",
        "reason": ending["reason"] if ending else "",
        "after": f"{max(0.0, until - claim.started):.0f} s",
        "host": claim.owner.host,
    }


def _last_sign(claim: Claim) -> float:
    """When an attempt without an exit record was last seen to do anything."""
    signs = [claim.heartbeat, claim.output, claim.directory / "progress.json"]
    return max((os.stat(path).st_mtime for path in signs if path.exists()), default=claim.started)
