"""Homes that are links: every result is a directory `.<name>.g<N>` of its own, and the link says which one counts.

So a result that is made anew replaces the one before in a single step, and whoever reads that one goes on with it. For
kinds whose results many read (`Kind.generations`). Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from holdfast.core import artifact, files
from holdfast.core.artifact import Manifest


def current(home: Path) -> str:
    """The name of the directory that `home` links to; empty where there is no link."""
    try:
        return os.readlink(home)
    except OSError:
        return ""


def directories(home: Path) -> list[Path]:
    """Every generation that lies beside `home`, oldest first."""
    pattern = re.compile(rf"\.{re.escape(home.name)}\.g(\d+)")
    try:
        names = os.listdir(home.parent)
    except FileNotFoundError:
        return []
    numbered = sorted((int(match[1]), name) for name in names if (match := pattern.fullmatch(name)))
    return [home.parent / name for _, name in numbered]


def publish(built: Path, home: Path, manifest: Manifest, replaces: str = "") -> bool:
    """Make `built` the next generation and let `home` link to it; False if the same work is there already, and is not
    the generation that this one `replaces` (then `built` is discarded).

    Raises:
        NameTaken: something else lies at `home`.
    """
    files.write_durably(built / artifact.MANIFEST, files.encode(dict(manifest.content)))
    files.fsync_path(built)
    files.make_directories(home.parent)
    made = _number(built, home)
    while True:
        if replaces and current(home) == replaces:
            files.point(home, made.name)
            return True
        if _link(home, made.name):
            return True
        if not artifact.make_way(home, manifest):
            files.discard(made)
            return False


def _number(built: Path, home: Path) -> Path:
    there = directories(home)
    number = int(there[-1].name.rpartition("g")[2]) if there else 0
    while True:
        number += 1
        target = home.with_name(f".{home.name}.g{number}")
        if files.move_into_place(built, target):
            return target


def _link(home: Path, target: str) -> bool:
    try:
        os.symlink(target, home)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    files.fsync_path(home.parent)
    return True


def discard(home: Path) -> None:
    """Delete the link and every generation."""
    there = directories(home)
    files.discard(home)
    for directory in there:
        files.discard(directory)
