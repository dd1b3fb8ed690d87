"""An attempt is one execution of a stage, and at the same time the claim to it.

Attempt n exists once `attempts/n.json` was created by link(); the owner is the highest n while it has no exit record. A
takeover creates n+1 and removes nothing, so a wrong takeover costs work and never truth. Waiting in a queue is
claimed the same way, by `queued/n.json`. flock is not used: on many cluster file systems it excludes nobody. Standard
library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from holdfast.core import files, process
from holdfast.core.errors import DamagedFile, Held, UnreadableFile
from holdfast.core.process import Identity

HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
ENTRY = re.compile(r"(\d{3,})\.json")
STAGE_SEQUENCES = ("attempts", "queued")
RESERVE = 4096
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Claim:
    """An entry in a sequence of claims: who, since when, for which job.

    `allocation` is a scheduler's name for what it runs in, `restarts` how often that was started before.
    """

    path: Path
    n: int
    token: str
    job: str
    owner: Identity
    started: float
    allocation: str = ""
    restarts: int = 0

    @cached_property
    def directory(self) -> Path:
        """What happened in this attempt: output.log, heartbeat, progress.json, exit.json."""
        return self.path.with_suffix("")

    @property
    def output(self) -> Path:
        return self.directory / "output.log"

    @property
    def heartbeat(self) -> Path:
        return self.directory / "heartbeat"

    @property
    def reserve(self) -> Path:
        """Disk space put by, so that the exit record can be written when the disk is full."""
        return self.directory / "reserve"

    def ending(self) -> dict[str, Any] | None:
        """The exit record: `outcome`, `reason`, `code`, `finished`; None while there is none.

        A damaged one still says that the attempt has ended: it is only written when nothing of the attempt is left.
        """
        path = self.directory / "exit.json"
        try:
            content = files.read_or_none(path, "exit record")
        except DamagedFile as error:
            return {"outcome": "unknown", "reason": str(error), "finished": self.started}
        if content is None or isinstance(content.get("outcome"), str):
            return content and {"reason": "", "finished": self.started, **content}
        return {"outcome": "unknown", "reason": f"exit record has no outcome: {path}", "finished": self.started}

    @property
    def refusal(self) -> Path:
        """Why the scheduler did not take back a job whose exit record says `goes_on`; there only if it did not."""
        return self.directory / "requeue.json"

    def progress(self) -> dict[str, Any] | None:
        """How far it is, `{done, total, unit}`, or None; a torn or foreign record is no progress."""
        try:
            content = files.read_or_none(self.directory / "progress.json", "progress record")
        except (DamagedFile, UnreadableFile):
            return None
        return content if content and {"done", "total", "unit"} <= set(content) else None


class Life(Enum):
    """What can be said of a claim that has no exit record."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """`reason` is for people; `left` are the pids that a dead supervisor left running."""

    life: Life
    reason: str
    left: tuple[int, ...] = ()


def newest(sequence: str | Path) -> Claim | None:
    """The claim with the highest number in `attempts/` or `queued/`, or None."""
    while number := highest(sequence):
        # Slots are tidied up: the entry that was the highest may be gone already, but then there is a higher one.
        with contextlib.suppress(FileNotFoundError):
            return read(Path(sequence), number)
    return None


def highest(sequence: str | Path) -> int:
    """The highest number that was taken in a sequence, 0 where there is none."""
    try:
        names = os.listdir(sequence)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise UnreadableFile(
            f"claims cannot be read: {sequence}: {error.strerror}", f"look at their owner and mode: ls -ld {sequence}"
        ) from None
    return max((int(match[1]) for name in names if (match := ENTRY.fullmatch(name))), default=0)


def every(sequence: Path) -> list[Claim]:
    """All claims of a sequence, oldest first."""
    return [read(sequence, n) for n in range(1, highest(sequence) + 1)]


def entry(sequence: Path, n: int) -> Path:
    return sequence / f"{n:03d}.json"


def read(sequence: Path, n: int) -> Claim:
    """Claim number `n` of a sequence. Of a damaged entry whose attempt has an exit record, what that one says: nobody
    is at it any more.

    Raises:
        DamagedFile, UnreadableFile: the entry is torn, foreign or closed to us. It still counts as a claim: nobody may
            assume that it is free.
    """
    try:
        return _read(entry(sequence, n))
    except DamagedFile as error:
        claim = nameless(sequence, n)
        ending = claim.ending()
        if ending is None:
            way_out = f"if you know that nobody is at it: holdfast cancel --declare-dead {sequence.parent.name[:12]}"
            raise DamagedFile(str(error), way_out if sequence.name in STAGE_SEQUENCES else error.hint) from None
        started = ending.get("started", ending["finished"])
        return replace(claim, job=str(ending.get("job", "")), started=started if isinstance(started, float) else 0.0)


def nameless(sequence: Path, n: int) -> Claim:
    """What can be said of a claim whose entry cannot be read: where it prints. Nobody can judge its owner."""
    nobody = Identity("", "an unknown host", "", "", 0, "", "somebody")
    return Claim(entry(sequence, n), n, "", "", nobody, 0.0)


def _read(path: Path) -> Claim:
    content = files.read(path, "claim")
    try:
        return Claim(
            path,
            int(path.stem),
            str(content["token"]),
            str(content["job"]),
            Identity(**content["owner"]),
            float(content["started"]),
            str(content.get("allocation", "")),
            int(content.get("restarts", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"claim is not one of ours: {path}: {error!r}", f"look at it: less {path}") from None


def create(
    sequence: Path, n: int, job: str, owner: Identity, token: str = "", allocation: str = "", restarts: int = 0
) -> Claim:
    """Take number `n`.

    Raises:
        Held: another process took it first.
    """
    token = token or files.new_token()
    claim = Claim(entry(sequence, n), n, token, job, owner, time.time(), allocation, restarts)
    files.make_directories(claim.directory)
    claim.reserve.write_bytes(bytes(RESERVE))
    try:
        files.create(claim.path, _encode(claim))
    except FileExistsError:
        raise Held(f"claimed a moment ago: {claim.path}") from None
    return claim


def queue(places: Iterable[tuple[Path, int]], job: str, owner: Identity, durable_in: Path) -> list[Path]:
    """Take place `n` in each of the queues `(directory, n)`, with two syncs however many there are.

    Returns the queues in which the place was still free.
    """
    claims = [Claim(entry(queue, n), n, files.new_token(), job, owner, time.time()) for queue, n in places]
    for claim in claims:
        claim.path.parent.mkdir(exist_ok=True)
        claim.path.with_name(f"{files.TEMPORARY}{claim.token}").write_bytes(_encode(claim))
    files.sync_filesystem(durable_in)
    taken = [claim.path.parent for claim in claims if _link_place(claim)]
    files.sync_filesystem(durable_in)
    return taken


def _link_place(claim: Claim) -> bool:
    temporary = claim.path.with_name(f"{files.TEMPORARY}{claim.token}")
    try:
        return files.link(temporary, claim.path)
    finally:
        os.unlink(temporary)


def _encode(claim: Claim) -> bytes:
    run = {"allocation": claim.allocation, "restarts": claim.restarts} if claim.allocation else {}
    return files.encode(
        {"token": claim.token, "job": claim.job, "owner": claim.owner.as_dict(), "started": claim.started, **run}
    )


def end(claim: Claim, outcome: str, reason: str, **details: Any) -> None:
    """Write the exit record; the first one stands."""
    of = {"job": claim.job, "started": claim.started}  # should the claim itself be damaged one day
    content = files.encode({"outcome": outcome, "reason": reason, **details, **of, "finished": time.time()})
    files.make_directories(claim.directory)
    with contextlib.suppress(FileExistsError):
        try:
            files.create(claim.directory / "exit.json", content)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            claim.reserve.unlink(missing_ok=True)
            files.create(claim.directory / "exit.json", content)
    claim.reserve.unlink(missing_ok=True)


class Census:
    """The processes of this host by attempt token, scanned at most once."""

    @cached_property
    def here(self) -> Identity:
        return process.current()

    @cached_property
    def carriers(self) -> dict[str, list[int]]:
        return process.carriers()


def judge(claim: Claim, census: Census) -> Verdict:
    """Whether the owner of an unfinished claim lives, by what this host can prove (design, section 3.3)."""
    owner, here = claim.owner, census.here
    if owner.machine != here.machine:
        return Verdict(Life.UNKNOWN, f"runs on {owner.host}, which cannot be seen from here")
    if owner.boot != here.boot and owner.names_machine and here.boot:
        return Verdict(Life.DEAD, f"{owner.host} was restarted")
    if owner.boot != here.boot or not owner.start:
        return Verdict(Life.UNKNOWN, f"runs on {owner.host}, which says too little of itself to tell it from here")
    if owner.namespace != here.namespace:
        return Verdict(Life.UNKNOWN, f"runs in another container of {owner.host}, which cannot be seen from here")
    if process.is_alive(owner):
        return Verdict(Life.ALIVE, f"pid {owner.pid} on {owner.host}")
    if not process.can_see(owner):
        unseen = f"{here.user} cannot see what {owner.user} left running"
        return Verdict(Life.UNKNOWN, f"supervisor (pid {owner.pid}) is gone, but {unseen}")
    left = tuple(pid for pid in census.carriers.get(claim.token, ()) if pid != here.pid)
    if left:
        pids = ", ".join(map(str, left))
        return Verdict(Life.DEAD, f"supervisor (pid {owner.pid}) is gone, its process {pids} still runs", left)
    return Verdict(Life.DEAD, f"supervisor (pid {owner.pid}) is gone")


def falls_silent(claim: Claim, seconds: float = SILENCE_SECONDS, wait: Callable[[float], None] = time.sleep) -> bool:
    """Watch the heartbeat for `seconds` of our own monotonic clock: True if it never changes.

    Clocks of two machines are never compared. A file that is not there yet counts as a heartbeat that does not change.
    """
    first = files.read_tail(claim.heartbeat)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        wait(min(1.0, seconds / 10))
        if files.read_tail(claim.heartbeat) != first or claim.ending():
            return False
    return True


def take(
    sequence: Path,
    job: str,
    *,
    exclusive: bool,
    owner: Identity | None = None,
    grace: float = 5.0,
    silence: float = SILENCE_SECONDS,
    token: str = "",
    allocation: str = "",
    restarts: int = 0,
) -> Claim:
    """Claim a stage: number 1, or the one after an attempt that ended or is proven dead.

    What a dead supervisor left running is ended first. Kinds that are safe to run twice (`exclusive` False) are also
    freed by `silence` seconds without a heartbeat; exclusive ones never. `token` is what the owner's processes carry in
    their environment, if they do already. An attempt of the same `allocation` with fewer `restarts` was ended by its
    scheduler, whoever still sees its processes.

    Raises:
        Held: somebody has it.
    """
    last = newest(sequence)
    if last and last.ending() is None:
        if allocation and last.allocation == allocation and last.restarts < restarts:
            _bury_dead(last, Verdict(Life.DEAD, f"the scheduler started {allocation} again"), grace)
        else:
            _bury(last, exclusive, grace, silence)
    n = last.n + 1 if last else 1
    return create(sequence, n, job, owner or process.current(), token, allocation, restarts)


def bury(sequence: Path, grace: float = 5.0) -> Claim | None:
    """End what a dead supervisor left running and write its exit record; returns the attempt that was buried.

    Raises:
        Held: the newest attempt is alive, or nobody can prove its death.
    """
    last = newest(sequence)
    if last is None or last.ending() is not None:
        return None
    _bury(last, exclusive=True, grace=grace, silence=0.0)
    return last


def _bury(claim: Claim, exclusive: bool, grace: float, silence: float) -> None:
    """Write the exit record of an attempt that did not live to do so, or raise Held."""
    verdict = judge(claim, Census())
    if verdict.life is Life.ALIVE:
        raise Held(f"in flight: attempt {claim.n}, {verdict.reason}")
    if verdict.life is Life.UNKNOWN:
        if exclusive:
            raise Held(f"in flight: attempt {claim.n} {verdict.reason}; only proof of its death frees it")
        if falls_silent(claim, silence):
            end(claim, "silent", f"{claim.owner} was silent for {silence:.0f} s")
        elif claim.ending() is None:
            raise Held(f"in flight: attempt {claim.n} {verdict.reason}, and it beats")
        return
    _bury_dead(claim, verdict, grace)


def _bury_dead(claim: Claim, verdict: Verdict, grace: float) -> None:
    if claim.owner.same_boot(process.current()):
        _end_leftovers(claim, grace)
    end(claim, "died", verdict.reason)


def _end_leftovers(claim: Claim, grace: float) -> None:
    try:
        process.end_carriers(claim.token, grace, spare=[os.getpid()])
    except PermissionError as error:
        raise Held(f"in flight: attempt {claim.n}: what it left running belongs to another user: {error}") from None
