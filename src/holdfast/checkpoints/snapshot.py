"""Notices that somebody changed files while they were read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from holdfast.core.errors import DamagedFile

HINT = "wait until nobody writes it, then type the same command again"


class Identity(NamedTuple):
    """What changes when a file is written or replaced: times in nanoseconds, size in bytes."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True)
class Snapshot:
    """Files as they were. Take it before they are read, and check it when all is written.

    `.metadata` first: a checkpoint that is saved again replaces its data before that, so a snapshot that holds it and
    the data files is that of one save, if it still holds at the end.
    """

    identities: Mapping[Path, Identity]

    @classmethod
    def take(cls, paths: Iterable[Path]) -> Snapshot:
        """
        Raises:
            DamagedFile: one of them is not there.
        """
        return cls({path: _identify(path) for path in sorted(set(paths))})

    def with_files(self, paths: Iterable[Path]) -> Snapshot:
        """This, and more files as they are now.

        Raises:
            DamagedFile: one of them is not there.
        """
        return Snapshot({**Snapshot.take(set(paths) - self.identities.keys()).identities, **self.identities})

    def check(self) -> None:
        """
        Raises:
            DamagedFile: a file was changed, replaced or removed.
        """
        for path, before in self.identities.items():
            now = _identify(path)
            if now != before:
                what = f"{before.size} bytes, now {now.size}" if now.size != before.size else f"{now.size} bytes"
                how = "replaced" if now.inode != before.inode else "written"
                raise DamagedFile(f"{path}: it was {how} while it was read ({what})", HINT)


def _identify(path: Path) -> Identity:
    try:
        found = os.stat(path)
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}", HINT) from None
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
