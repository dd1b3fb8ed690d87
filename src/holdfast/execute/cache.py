"""The cache of results that can always be made again (kinds with generations): what it holds, and what may go.

What goes is `evicted`, not lost: it is made again as soon as something needs it. What is pinned, made or read at this
moment stays.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import files, generations, kind, process
from holdfast.core.plan import IN_FLIGHT, Reader, Standing, State
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.execute.stop import SETTLED, size


@dataclass(frozen=True)
class Entry:
    """One result: `used` is when a stage last read it (or when it was made), in seconds since the epoch; `older` are
    the generations before the one that counts, `bytes` counts all of them.
    """

    standing: Standing
    bytes: int
    used: float
    pinned: str
    is_read: bool
    older: tuple[Path, ...]

    @property
    def record(self) -> Record:
        return self.standing.record

    @property
    def may_go(self) -> bool:
        return self.standing.state is State.COMPLETE and not self.pinned and not self.is_read

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.record.name,
            "home": self.record.home,
            "key": self.record.key,
            "state": str(self.standing.state),
            "bytes": self.bytes,
            "used": self.used,
            "pinned": self.pinned,
            "in_use": self.is_read,
            "generations": len(self.older) + (self.standing.state is State.COMPLETE),
        }


def entries(store: Store) -> list[Entry]:
    """What the cache holds or held, the longest unused first."""
    reader = Reader(store)
    records = [record for record in store.records() if isinstance(record, Record)]
    cached = [record for record in records if kind.load(record.stage.kind).generations]
    being_read = _being_read(records, {record.key for record in cached}, reader)
    found = [_entry(store, reader.standing(record), record.key in being_read) for record in cached]
    return sorted(found, key=lambda entry: (entry.used, entry.record.name))


def _being_read(records: Iterable[Record], keys: set[str], reader: Reader) -> set[str]:
    """Those of `keys` that a stage in flight takes in."""
    wanted: set[str] = set()
    for record in records:
        takes = {ref.key for ref in record.stage.inputs.values()} & keys
        if takes - wanted and reader.standing(record).state in IN_FLIGHT:
            wanted |= takes
    return wanted


def _entry(store: Store, standing: Standing, is_read: bool) -> Entry:
    home = store.home(standing.record)
    now = generations.current(home)
    there = generations.directories(home)
    pin = files.read_or_none(pin_of(store, standing.record.key), "pin")
    return Entry(
        standing=standing,
        bytes=sum(size(directory) for directory in there),
        used=_last_used(store, standing.record, home),
        pinned=f"by {pin['user']}: {pin['reason']}" if pin else "",
        is_read=is_read,
        older=tuple(directory for directory in there if directory.name != now),
    )


def _last_used(store: Store, record: Record, home: Path) -> float:
    for path in (store.stage(record.key) / "used", home, store.stage(record.key)):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return record.planned


def note_use(store: Store, key: str) -> None:
    """That a stage reads this now; on a root that we may not write to, nobody learns it."""
    path = store.stage(key) / "used"
    with contextlib.suppress(OSError):
        path.touch()
        os.utime(path)


def pin_of(store: Store, key: str) -> Path:
    return store.stage(key) / "pinned.json"


def pin(store: Store, records: Iterable[Record], reason: str) -> None:
    """Keep these whatever the quota is."""
    for record in records:
        note = {"user": process.current().user, "reason": reason, "time": time.time()}
        files.replace(pin_of(store, record.key), files.encode(note))


def unpin(store: Store, records: Iterable[Record]) -> None:
    for record in records:
        pin_of(store, record.key).unlink(missing_ok=True)


def superfluous(store: Store, found: Sequence[Entry]) -> Iterator[Path]:
    """Generations that no longer count and that nobody reads. One that counted until a moment ago may still be read by
    programs that are not ours, and a young one may be on its way to count.
    """
    for entry in found:
        if entry.is_read or entry.standing.state in IN_FLIGHT or _is_young(store.home(entry.record)):
            continue
        yield from (directory for directory in entry.older if not _is_young(directory))


def _is_young(path: Path) -> bool:
    """Of the link to a generation: since when that one counts."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime <= SETTLED
    return False


def choose(found: Sequence[Entry], *, quota: int | None, unused_for: float | None) -> list[Entry]:
    """What goes, the longest unused first: all that was not used for `unused_for` seconds, and then as much as it takes
    to come down to `quota` bytes.
    """
    total = sum(entry.bytes for entry in found)
    chosen = []
    for entry in found:
        is_old = unused_for is not None and time.time() - entry.used > unused_for
        if entry.may_go and (is_old or (quota is not None and total > quota)):
            chosen.append(entry)
            total -= entry.bytes
    return chosen


def evict(store: Store, entry: Entry, why: str) -> bool:
    """Take one out; False if somebody began to read it or pinned it meanwhile. The note is there before anything goes,
    so that whoever plans from now on makes it again.
    """
    note = store.eviction(entry.record.key)
    reason = f"taken out of the cache by {process.current().user} ({why}); made again when something needs it"
    with contextlib.suppress(FileExistsError):
        files.create(note, files.encode({"reason": reason, "time": time.time()}))
    again = next((each for each in entries(store) if each.record.key == entry.record.key), None)
    if again is None or not again.may_go:
        note.unlink(missing_ok=True)
        return False
    generations.discard(store.home(entry.record))
    return True
