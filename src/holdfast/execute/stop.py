"""Stops, deletes and cleans: the things that a person does on purpose, each on record."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.core import attempt, files, generations, job, process
from holdfast.core.attempt import Census, Claim, Life, Verdict
from holdfast.core.errors import DamagedFile, Held, UnreadableFile, UserError
from holdfast.core.plan import IN_FLIGHT, Reader, Standing, State, refuse_if_read
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.execute import snapshots

SETTLED = 3600.0
"""Seconds after which what nobody claims is nobody's: a younger one may belong to a submission of this moment."""

KEPT = ("exit.json", "requeue.json")
"""What says how an attempt ended, and whether it goes on."""


def cancel(store: Store, found: Sequence[Standing]) -> None:
    """Ask whoever runs these stages, or is going to, to stop, and end what a dead supervisor of one left running. What
    is not in flight otherwise is left as it is.

    Whoever runs one sees the word within a second, and saves. What waits at a scheduler is taken out of its queue; what
    runs there is ended by it if it was asked before.

    Raises:
        UserError: the scheduler did not take the request; the word to stop stands.
    """
    reason = f"cancelled by {process.current().user}"
    for each in found:
        if each.state is State.OWED and not bury_proven(store, each):
            _bury(store, each.record)
    flying = [(each, store.job(each.claim.job)) for each in found if each.state in IN_FLIGHT and each.claim]
    again = {each.record.key for each, where in flying if job.stop_reason(where, each.record.key)}
    for each, where in flying:
        job.ask_to_stop(where, reason, each.record.key)
    if store.scheduler is None:
        return
    for started in (False, True):
        tasks = [(where, each.record.key) for each, where in flying if (each.record.key in again) is started]
        for _, key in store.scheduler.cancel(tasks, started=started) if tasks else []:
            _give_back(store, key, reason)


def _give_back(store: Store, key: str, reason: str) -> None:
    """End the place in the queue of a stage that nobody is going to start any more."""
    place = attempt.newest(store.queued(key))
    last = attempt.newest(store.attempts(key))
    if place and not (last and last.job == place.job):
        attempt.end(place, "dropped", f"not started: {reason}")


def bury_proven(store: Store, standing: Standing) -> bool:
    """Put on record the end of an attempt that its scheduler proved, and that no supervisor elsewhere could see."""
    last = attempt.newest(store.attempts(standing.record.key))
    if standing.state is not State.OWED or store.scheduler is None or last is None or last.ending() is not None:
        return False
    if attempt.judge(last, Census()).life is not Life.UNKNOWN:
        return False
    attempt.end(last, "died", standing.reason)
    return True


def _bury(store: Store, record: Record) -> None:
    try:
        attempt.bury(store.attempts(record.key))
    except Held as error:
        raise UserError(
            f"`{record.name}` is {error}", f"if you know that it is dead: holdfast cancel --declare-dead {record.home}"
        ) from None


def declare_dead(store: Store, standing: Standing) -> None:
    """Write the exit record of an attempt of which a person says that it is dead.

    Raises:
        UserError: this machine can see that it is alive.
    """
    key = standing.record.key
    place = _newest_or_nameless(store.queued(key))
    if place and not place.token and place.ending() is None:
        attempt.end(place, "dropped", f"not started: its place in the queue is damaged: {place.path}")
    last = _newest_or_nameless(store.attempts(key))
    if last is None or last.ending() is not None:
        return
    verdict = attempt.judge(last, Census()) if last.token else _judge_by_record(last)
    if verdict.life is Life.ALIVE:
        raise UserError(
            f"attempt {last.n} of `{standing.record.name}` is alive: {verdict.reason}",
            f"holdfast cancel {standing.record.name}",
        )
    attempt.end(last, "died", f"declared dead by {process.current().user}: {verdict.reason}")


def _newest_or_nameless(sequence: Path) -> Claim | None:
    try:
        return attempt.newest(sequence)
    except DamagedFile:
        return attempt.nameless(sequence, attempt.highest(sequence))


def _judge_by_record(claim: Claim) -> Verdict:
    """Of a claim that does not say who has it: whether processes of this host still do its work."""
    if pids := process.carriers("HOLDFAST_RECORD").get(str(claim.directory)):
        return Verdict(Life.ALIVE, f"process {', '.join(map(str, pids))} still does its work")
    return Verdict(Life.UNKNOWN, f"its claim is damaged: {claim.path}")


def remove(store: Store, record: Record, reason: str) -> None:
    """Delete what a stage made. A tombstone says so, and no plan does the work again unless it is told to.

    Raises:
        UserError: somebody is at it.
    """
    standing = Reader(store).standing(record)
    if standing.state in IN_FLIGHT:
        raise UserError(
            f"`{record.name}` is {standing.state}: {standing.reason}", f"holdfast cancel {record.home} --wait"
        )
    refuse_if_read(store, [record.key])
    _bury(store, record)
    with contextlib.suppress(FileExistsError):
        files.create(
            store.tombstone(record.key),
            files.encode({"user": process.current().user, "reason": reason, "time": time.time()}),
        )
    home = store.home(record)
    if os.path.lexists(home) and _is_ours(store, record):
        generations.discard(home)


def _is_ours(store: Store, record: Record) -> bool:
    return store.owner(record.home) == record.key


def rubbish(store: Store, *, attempts_older_than: float, keep: int) -> Iterator[Path]:
    """What can go: temporaries of writers that are dead, trash, the records of old attempts, claims of trackers that
    have ended, and snapshots of code.

    The newest `keep` attempts of a stage stay, and any that has not ended or is younger than `attempts_older_than`
    seconds. A snapshot stays as long as work that was launched with it waits, runs or is owed.
    """
    live = process.carriers()
    found = _standings(store)
    yield from _leftovers(store, live, found)
    for key in store.list_keys():
        yield from _old_attempts(store.attempts(key), attempts_older_than, keep)
        yield from _old_claims(store.stage(key) / "trackers", attempts_older_than)
    yield from snapshots.unneeded(store, found, max(attempts_older_than, SETTLED))


def _leftovers(store: Store, live: dict[str, list[int]], found: Sequence[Standing]) -> Iterator[Path]:
    running = {standing.claim.token for standing in found if standing.claim and standing.state in IN_FLIGHT}
    for parent, folders, names in os.walk(store.root):
        for name in [*folders, *names]:
            in_use = any(token in name for token in running | set(live))
            if files.is_leftover(name) and not in_use and _is_old(Path(parent, name)):
                yield Path(parent, name)
        folders[:] = [name for name in folders if not files.is_leftover(name)]


def _standings(store: Store) -> list[Standing]:
    reader = Reader(store)
    return [reader.standing(record) for record in store.records() if isinstance(record, Record)]


def _is_old(path: Path, seconds: float = SETTLED) -> bool:
    """Nobody writes a temporary for an hour without a claim; a young one may be a publication of this moment."""
    try:
        return time.time() - path.lstat().st_mtime > seconds
    except FileNotFoundError:
        return False


def _old_attempts(sequence: Path, older_than: float, keep: int) -> Iterator[Path]:
    try:
        claims = attempt.every(sequence)
    except DamagedFile:
        return  # nobody knows whose it is, so all of it stays
    for claim in claims[: max(0, len(claims) - keep)]:
        ending = claim.ending()
        if ending and time.time() - ending["finished"] > older_than and claim.output.exists():
            yield from (path for path in claim.directory.iterdir() if path.name not in KEPT)


def _old_claims(trackers: Path, older_than: float) -> Iterator[Path]:
    """Claims of trackers that ended, save for the newest of each: how far a tracker came is in its cursor."""
    for sequence in sorted(trackers.glob("*/")):
        try:
            numbers = sorted(int(match[1]) for name in os.listdir(sequence) if (match := attempt.ENTRY.fullmatch(name)))
            claims = [attempt.read(sequence, number) for number in numbers]
        except (DamagedFile, UnreadableFile, FileNotFoundError):
            continue
        for claim in claims[:-1]:
            ending = claim.ending()
            if ending and time.time() - ending["finished"] > older_than:
                yield from (path for path in (claim.path, claim.directory) if path.exists())


def size(path: Path) -> int:
    """Bytes below a path, links not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(path) for name in names)
