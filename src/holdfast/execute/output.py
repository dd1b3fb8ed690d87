"""Reads what attempts printed. A log is shown as text: escape sequences in it do not reach the terminal."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from holdfast.core import attempt, files
from holdfast.core.attempt import Census, Claim, Life
from holdfast.core.errors import DamagedFile, UserError
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.execute.diagnosis import plain

CHUNK = 1 << 16


def find_attempt(store: Store, record: Record, number: int | None) -> Claim:
    """Attempt `number` of a stage, or its newest.

    Raises:
        UserError: there is none.
    """
    sequence = store.attempts(record.key)
    last = attempt.highest(sequence)
    if not last:
        raise UserError(f"`{record.name}` was never started, so it printed nothing", f"holdfast why {record.name}")
    wanted = last if number is None else number
    if not 1 <= wanted <= last:
        raise UserError(f"`{record.name}` has no attempt {number}: it has {last}", f"give a number from 1 to {last}")
    try:
        return attempt.read(sequence, wanted)
    except DamagedFile as error:
        warnings.warn(f"{error}; what it printed is shown all the same", stacklevel=2)
        return attempt.nameless(sequence, wanted)


def log_of(claim: Claim, service: str | None) -> Path:
    """Where an attempt, or a service of it, prints.

    Raises:
        UserError: there is no such service.
    """
    if service is None:
        return claim.output
    log = claim.directory / f"service-{files.safe_name(service)}.log"
    if not log.exists():
        known = [
            path.name.removeprefix("service-").removesuffix(".log") for path in claim.directory.glob("service-*.log")
        ]
        raise UserError(f"attempt {claim.n} has no service `{service}`", f"services: {', '.join(known) or 'none'}")
    return log


def tail(log: Path, count: int) -> list[str]:
    """The last `count` lines."""
    text = files.read_tail(log, CHUNK * 16).decode(errors="replace")
    return [plain(line) for line in text.splitlines()[-count:]]


def follow(claim: Claim, log: Path, count: int, interval: float = 0.2) -> Iterator[str]:
    """The last `count` lines, then every new one until the attempt has ended; a line counts once it is whole."""
    size = log.stat().st_size if log.exists() else 0
    position = max(0, size - CHUNK * 16)
    begun, _, half = _from(log, position)[: size - position].rpartition(b"\n")
    yield from (plain(line.decode(errors="replace")) for line in begun.splitlines()[-count:])
    position = size - len(half)
    rest = b""
    while True:
        ended = claim.ending() is not None or attempt.judge(claim, Census()).life is Life.DEAD
        rest += _from(log, position + len(rest))
        lines = rest.split(b"\n")
        position += len(rest) - len(lines[-1])
        rest = lines.pop()
        yield from (plain(line.decode(errors="replace")) for line in lines)
        if ended:
            break
        time.sleep(interval)
    if rest:
        yield plain(rest.decode(errors="replace"))


def _from(log: Path, position: int) -> bytes:
    try:
        with open(log, "rb") as file:
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""
