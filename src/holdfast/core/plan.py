"""What is wanted, and `missing`: what of it is not there, each with a state and a reason in words.

Planners are pure and run again, never remembered: the answer comes from manifests and claims, so the same command,
typed again anywhere, goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from holdfast.core import artifact, attempt, files, job
from holdfast.core.artifact import Manifest
from holdfast.core.attempt import Census, Claim, Life, Verdict
from holdfast.core.errors import ConfigError, DamagedFile, UnreadableFile, UserError
from holdfast.core.record import Record
from holdfast.core.stage import Ref, short
from holdfast.core.store import ADOPTED, Store

TIMES = {1: "once", 2: "twice"}


class State(StrEnum):
    COMPLETE = "complete"
    QUEUED = "queued"
    RUNNING = "running"
    OWED = "owed"
    EVICTED = "evicted"
    LOST = "lost"
    OUTDATED = "outdated"
    STALE = "stale"


IN_FLIGHT = frozenset({State.QUEUED, State.RUNNING})
REBUILT = frozenset({State.LOST, State.OUTDATED, State.STALE})
REPEATABLE = REBUILT | {State.COMPLETE}


@dataclass(frozen=True)
class Standing:
    """How one stage stands. `claim` is its newest attempt (or its place in a queue), where there is one. `unseen`:
    nobody here can tell whether the attempt still runs.
    """

    record: Record
    state: State
    reason: str
    claim: Claim | None = None
    attempt: int = 0
    unseen: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The form of `status --json` (design, section 7)."""
        progress = self.claim.progress() if self.claim else None
        return {
            "key": self.record.key,
            "name": self.record.name,
            "kind": self.record.stage.kind,
            "state": str(self.state),
            "reason": self.reason,
            "attempt": self.attempt,
            "job": self.claim.job if self.claim else None,
            "progress": {name: progress[name] for name in ("done", "total", "unit")} if progress else None,
            "home": self.record.home,
        }


class Plan:
    """The wanted stages in an order in which inputs come first; `adopted` stands for inputs that others made.

    Raises:
        ConfigError: two stages want one home, or one stage is wanted under two.
    """

    def __init__(self, records: Iterable[Record], adopted: Iterable[Record] = ()) -> None:
        self.records: dict[str, Record] = {}
        self.adopted = {record.key: record for record in adopted}
        homes: dict[str, Record] = {}
        for record in records:
            known = self.records.setdefault(record.key, record)
            if known.home != record.home:
                raise ConfigError(
                    f"`{known.name}` and `{record.name}` are the same work",
                    "keep one of them, and refer to it by its name",
                )
            other = homes.setdefault(record.home, record)
            if other.key != record.key:
                raise ConfigError(
                    f"`{other.name}` and `{record.name}` both go to {record.home}", "give one of them another name"
                )

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())

    def __len__(self) -> int:
        return len(self.records)


class Reader:
    """Reads the standing of stages from the files of a root, each manifest at most once."""

    def __init__(self, store: Store, plan: Plan | None = None) -> None:
        self.store = store
        self.plan: dict[str, Record] = {**plan.adopted, **plan.records} if plan else {}
        self.census = Census()
        self._digests: dict[Ref, str | None] = {}

    def remember(self, records: Iterable[Record]) -> None:
        """Take records that were read already, so that none is read twice."""
        self.plan.update((record.key, record) for record in records)

    @cached_property
    def _root(self) -> str:
        return str(self.store.root)

    def standing(self, record: Record) -> Standing:
        """State and reason of one stage."""
        try:
            manifest = artifact.read(f"{self._root}/{record.home}")
        except UnreadableFile as error:
            known = self.store.owner(record.home) == record.key
            return Standing(record, State.COMPLETE if known else State.OWED, f"{error}: shown, not used")
        except DamagedFile as error:
            return self._damaged(record, str(error))
        if manifest and manifest.key == record.key:
            return self._complete(record, manifest)
        self._digests[Ref(record.key)] = None  # so that what takes it in does not look again
        if manifest and self._is_older(manifest.key, record):
            return Standing(
                record,
                State.OUTDATED,
                f"made by an older version of kind {record.stage.kind}, now {record.stage.version}",
            )
        return self._incomplete(record)

    def _complete(self, record: Record, manifest: Manifest) -> Standing:
        self._digests[Ref(record.key)] = manifest.digest
        for name, used in manifest.inputs.items():
            now = self.digest(record.stage.inputs[name]) if name in record.stage.inputs else None
            then = str(used.get("digest"))
            if now is not None and now != then:
                reason = f"input {name} was rebuilt: {short(now)} now, {short(then)} used"
                return Standing(record, State.STALE, reason, attempt=manifest.attempt)
        complete = Standing(record, State.COMPLETE, "", attempt=manifest.attempt)
        return self._being_replaced(record) or complete if manifest.has_generations else complete

    def _being_replaced(self, record: Record) -> Standing | None:
        """In flight once more, while the generation before can still be read."""
        standing = self._incomplete(record)
        if standing.state not in IN_FLIGHT:
            return None
        return replace(standing, reason=f"{standing.reason}; until then the generation before counts")

    def without_result(self, record: Record) -> Standing:
        """As if nothing lay at its home: how the newest attempt ended, to replace what is there."""
        return self._incomplete(record)

    def _damaged(self, record: Record, reason: str) -> Standing:
        """A manifest that proves nothing: owed, unless somebody is at it or it was deleted on purpose."""
        standing = self._incomplete(record)
        by_hand = standing.state is State.LOST and standing.claim is not None
        owed = standing.state is State.OWED or by_hand
        return replace(standing, state=State.OWED, reason=reason) if owed else standing

    def _is_older(self, key: str, record: Record) -> bool:
        try:
            other = self.store.read(key).stage
        except (FileNotFoundError, DamagedFile, UnreadableFile):
            return False
        return other.version < record.stage.version and (other.kind, other.params) == (
            record.stage.kind,
            record.stage.params,
        )

    def _incomplete(self, record: Record) -> Standing:
        try:
            return self._given_up(record) or self._claimed(record) or self._never_started(record)
        except (DamagedFile, UnreadableFile) as error:
            return Standing(
                record, State.RUNNING, f"claimed by an entry that cannot be read, so it is left alone: {error}"
            )

    def _given_up(self, record: Record) -> Standing | None:
        """Deleted on purpose, or archived. A note that is damaged still says that it was."""
        directory = f"{self.store.stages}/{record.key}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            note = _note(f"{directory}/tombstone.json", "tombstone")
            by = f" by {note['user']}" if "user" in note else ""
            return Standing(record, State.LOST, f"deleted on purpose{by}: {note.get('reason')}")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            note = _note(f"{directory}/evicted.json", "eviction")
            reason = f"archived at {note['where']}" if note.get("where") else str(note["reason"])
            return Standing(record, State.EVICTED, reason)
        return None

    def _claimed(self, record: Record) -> Standing | None:
        last = self._newest(record)
        if last is None:
            return self._waiting(record, None)
        if last.ending():
            return self._waiting(record, last) or self._ended(record, last)
        verdict = self._judge(record, last)
        if verdict.life is not Life.DEAD:
            return Standing(record, State.RUNNING, verdict.reason, last, last.n, verdict.life is Life.UNKNOWN)
        died = f"attempt {last.n} died: {verdict.reason}{_reached(last)}"
        return self._waiting(record, last) or Standing(record, State.OWED, died, last, last.n)

    def _waiting(self, record: Record, last: Claim | None) -> Standing | None:
        """In a queue, or dropped from it, since the newest attempt."""
        place = attempt.newest(self.store.queued(record.key))
        if place is None:
            return None
        if last and last.job == place.job:
            return self._to_go_on(record, place, last)
        done = last.n if last else 0
        if ending := place.ending():
            return Standing(record, State.OWED, ending["reason"], last, done)
        verdict = self.life(record.key, place)
        if verdict.life is Life.DEAD:
            if last and (last.ending() or {}).get("outcome") == "complete":
                reason = f"was to be done again, and job {place.job} ended before it began"
                return Standing(record, State.OWED, reason, last, done)
            return None if last else self._never_started(record, verdict.reason)
        return Standing(record, State.QUEUED, verdict.reason, place, done)

    def _to_go_on(self, record: Record, place: Claim, last: Claim) -> Standing | None:
        """In the queue again, after an attempt of the same job: by the word of its scheduler, or its own."""
        ending = last.ending() or {}
        if ending and (not ending.get("goes_on") or last.refusal.exists()):
            return None
        verdict = self.life(record.key, place, last)
        if verdict.life is Life.DEAD or (verdict.life is Life.UNKNOWN and not ending.get("goes_on")):
            return None
        why = f" after: {ending['reason']}" if ending else ""
        return Standing(record, State.QUEUED, f"{verdict.reason}, to go on{why}{_reached(last)}", last, last.n)

    def life(self, key: str, place: Claim, last: Claim | None = None) -> Verdict:
        """Whether the job that holds a place in the queue will still get to the stage; again, after `last`."""
        directory = self.store.job(place.job)
        if self.store.scheduler and (verdict := self.store.scheduler.will_run(directory, key, place, last)):
            return verdict
        if last and not (last.ending() or {}).get("goes_on"):
            return Verdict(Life.DEAD, "it had its attempt")
        verdict = job.life(directory, place, self.census)
        return verdict if verdict.life is Life.DEAD else replace(verdict, reason=f"waits in job {place.job}")

    def _judge(self, record: Record, claim: Claim) -> Verdict:
        verdict = attempt.judge(claim, self.census)
        if verdict.life is not Life.UNKNOWN or not self.store.scheduler:
            return verdict
        asked = self.store.scheduler.is_running(self.store.job(claim.job), record.key, claim)
        return asked or verdict

    def _newest(self, record: Record) -> Claim | None:
        return attempt.newest(f"{self.store.stages}/{record.key}/attempts")

    def _ended(self, record: Record, last: Claim) -> Standing:
        ending = last.ending() or {}
        if ending["outcome"] == "complete":
            reason = f"attempt {last.n} completed it, and {record.home} was removed by hand"
            return Standing(record, State.LOST, reason, last, last.n)
        reached = "" if _says_how_far(ending, last) else _reached(last)
        times = f"failed {self._times_failed(record, last)}: " if ending["outcome"] == "failed" else ""
        return Standing(record, State.OWED, f"{times}{ending['reason']}{reached}{_refused(last)}", last, last.n)

    def _times_failed(self, record: Record, last: Claim) -> str:
        sequence = self.store.attempts(record.key)
        count = 1
        while count < last.n and (attempt.read(sequence, last.n - count).ending() or {}).get("outcome") == "failed":
            count += 1
        return TIMES.get(count, f"{count} times")

    def _never_started(self, record: Record, why: str = "") -> Standing:
        """`why`: what became of the job that was to start it, unless it could not, since it needs something else."""
        waits = [self._supplier(ref) for ref in record.stage.inputs.values() if self.digest(ref) is None]
        rest = f"; waits for {', '.join(waits)}" if waits else f": {why}" if why else ""
        return Standing(record, State.OWED, f"never started{rest}")

    def _supplier(self, ref: Ref) -> str:
        record = self.record_of(ref)
        name = record.name if record else short(ref.key)
        return f"{name}/{ref.path}" if ref.path else name

    def digest(self, ref: Ref) -> str | None:
        """Digest of the artifact that `ref` names, or None while it is not complete."""
        if ref not in self._digests:
            self._digests[ref] = self._find_digest(ref)
        return self._digests[ref]

    def _find_digest(self, ref: Ref) -> str | None:
        record = self.record_of(ref)
        if record is None:
            return None
        if record.stage.kind == ADOPTED:
            return str(record.stage.params["fingerprint"]) if self.store.home(record).exists() else None
        manifest = artifact.holds(f"{self._root}/{record.home}/{ref.path}", ref.key, ref.path)
        return manifest.digest if manifest else None

    def record_of(self, ref: Ref) -> Record | None:
        """The stage that makes what `ref` names, from the plan or from the root."""
        if ref.key in self.plan:
            return self.plan[ref.key]
        try:
            return self.store.read(ref.key)
        except (FileNotFoundError, DamagedFile, UnreadableFile):
            return None

    def home_of(self, ref: Ref) -> Path | None:
        """Where the artifact that `ref` names is, or will be."""
        record = self.record_of(ref)
        return self.store.home(record) / ref.path if record else None


def _note(path: str, what: str) -> dict[str, Any]:
    try:
        return files.read(path, what)
    except (DamagedFile, UnreadableFile) as error:
        return {"reason": str(error)}


def _refused(claim: Claim) -> str:
    with contextlib.suppress(DamagedFile, UnreadableFile):
        refusal = files.read_or_none(claim.refusal, "refusal of a requeue")
        return f"; could not go on by itself: {refusal['reason']}" if refusal else ""
    return ""


def _says_how_far(ending: dict[str, Any], claim: Claim) -> bool:
    """Whether the reason has the step already, or should have none: programs that are not ours say nothing of theirs
    when they are stopped or killed.
    """
    if ending["outcome"] not in ("failed", "stopped"):
        return False
    foreign = "checkpoint" in (claim.progress() or {})
    return not foreign or (ending["outcome"] == "failed" and not ending.get("code"))


def _reached(claim: Claim) -> str:
    progress = claim.progress()
    if not progress:
        return ""
    of = "" if progress.get("open") else f" of {progress['total']}"
    saved = f"stopped at {progress['checkpoint']}," if "checkpoint" in progress else "at"
    return f", {saved} {progress['unit']} {progress['done']}{of}"


def standings(plan: Plan, store: Store) -> list[Standing]:
    """How every stage of a plan stands."""
    reader = Reader(store, plan)
    return [reader.standing(record) for record in plan]


def missing(plan: Plan, store: Store) -> list[Standing]:
    """What of a plan is not complete, each with a state and a reason."""
    return [standing for standing in standings(plan, store) if standing.state is not State.COMPLETE]


def refuse_if_read(store: Store, keys: Collection[str]) -> None:
    """
    Raises:
        UserError: a stage that is in flight reads one of these: to take it away now would cost that stage its result.
    """
    reader = Reader(store)
    for record in store.records():
        if not isinstance(record, Record) or not any(ref.key in keys for ref in record.stage.inputs.values()):
            continue
        if reader.standing(record).state in IN_FLIGHT:
            raise UserError(
                f"`{record.name}` is in flight and reads what would be taken away",
                f"wait for it, or: holdfast cancel {record.home} --wait",
            )


def submittable(found: Iterable[Standing], again: Collection[str] = ()) -> list[Standing]:
    """What a submission takes: the owed, and of what was finished once the keys in `again`."""
    return [
        each for each in found if each.state is State.OWED or (each.state in REPEATABLE and each.record.key in again)
    ]
