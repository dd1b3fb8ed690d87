"""Notices that files changed while they were read: a trainer that saves again, a retention that deletes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from holdfast.core.errors import UserError


class Stamp(NamedTuple):
    """What changes with a file's content; `ctime` also where somebody sets the other time back."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


Snapshot = Mapping[Path, Stamp]


def take(files: Iterable[Path]) -> Snapshot:
    """The files as they are.

    Raises:
        UserError: one is not there.
    """
    return {file: _stamp(file, "is not there") for file in sorted(set(files))}


def check(snapshot: Snapshot) -> None:
    """Refuse a result that was made of files that are no longer what they were.

    Raises:
        UserError: a file changed or vanished; it is named.
    """
    for file, before in snapshot.items():
        now = _stamp(file, "vanished while it was read")
        if now != before:
            changed = [name for name, old, new in zip(Stamp._fields, before, now, strict=True) if old != new]
            raise UserError(
                f"{file} changed while it was read ({', '.join(changed)})",
                "the checkpoint is being written: convert it again when the trainer is done with it",
            )


def _stamp(file: Path, what: str) -> Stamp:
    try:
        found = os.stat(file)
    except OSError as error:
        raise UserError(
            f"{file} {what}: {error.strerror}", "the checkpoint is being deleted, or was not copied in full"
        ) from None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
