"""Copies of code that jobs run in (`launch --snapshot`): where they are, and which of them nobody needs any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.core import attempt, files
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.job import Job
from holdfast.core.plan import IN_FLIGHT, Standing, State
from holdfast.core.record import Record
from holdfast.core.store import Store

GIVEN_UP = (State.LOST, State.EVICTED)


def place(store: Store) -> Path:
    return store.inside / "snapshots"


def unneeded(store: Store, found: Sequence[Standing], older_than: float) -> Iterator[Path]:
    """Snapshots older than that many seconds which only complete and given up work was launched with, and in which
    nothing ended since. `found` are the standings of all stages that can be read.
    """
    try:
        every = [path for path in place(store).iterdir() if not files.is_leftover(path.name)]
    except FileNotFoundError:
        return
    if not every or not all(isinstance(record, Record) for record in store.records()):
        return  # a stage that cannot be read may need any of them
    needed = {name for standing in found for name in _needed_by(store, standing, older_than)}
    for path in sorted(every):
        if path.name not in needed and time.time() - path.stat().st_mtime > older_than:
            yield path


def _needed_by(store: Store, standing: Standing, older_than: float) -> Iterator[str]:
    record = standing.record
    if standing.state not in (State.COMPLETE, *GIVEN_UP) or _ended_since(store, record, older_than):
        yield _name(store, str(record.placement.get("params", {}).get("directory", "")))
    if standing.state in IN_FLIGHT and standing.claim:
        # What runs was submitted with this, whatever was planned for the next attempt.
        with contextlib.suppress(FileNotFoundError, DamagedFile, UnreadableFile):
            tasks = Job.read(store.job(standing.claim.job)).tasks
            yield from (_name(store, task.directory) for task in tasks)


def _ended_since(store: Store, record: Record, seconds: float) -> bool:
    try:
        last = attempt.newest(store.attempts(record.key))
    except (DamagedFile, UnreadableFile):
        return True
    ending = last.ending() if last else None
    return bool(ending and time.time() - ending["finished"] <= seconds)


def _name(store: Store, directory: str) -> str:
    """The snapshot that a directory is in, or is; empty if none."""
    path = Path(directory)
    return path.relative_to(place(store)).parts[0] if place(store) in path.parents else ""
