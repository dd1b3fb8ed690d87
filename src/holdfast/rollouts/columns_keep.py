"""Keeps the index of rows up to date while they are collected, so that nobody who looks at many has to wait for it.

A process of its own does it, of the lowest priority, whenever the rows have grown by a quarter: it reads what is new,
writes and ends. So the collector neither waits for it nor needs memory for it, and whatever becomes of it harms nobody:
the viewer reads on where an index ends, and makes one where there is none. Rows that are few are read as fast as an
index of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.rollouts.columns_follow import Source, keep

INSIDE, KEPT = ".holdfast", "columns"
FEW = 2**20
"""Bytes of rows that are not worth an index."""
SHARE = 0.25
"""Of all bytes, that must be new before the index is written again while rows arrive."""
EVERY = 2.0
"""Seconds between two looks at how much is there."""
PATIENCE = 10.0
"""Seconds for which the end of a collection is held up at most."""
LONGEST = 120.0
"""Seconds to index what was published, while the report on it is made."""
NICE = 19
NOT_KEPT = "the index of rows is not kept, and made when somebody looks"


def source_of_parts(name: str, parts: Path) -> Source:
    """The rows of a collection, with its index beside them."""
    return Source(name, directory=parts, kept=parts.parent / KEPT, is_collection=True)


def kept_in_root(path: Path, root: Path) -> Path:
    """Where a root keeps the index of a file that lies in it."""
    return root / INSIDE / KEPT / hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


@contextlib.contextmanager
def keeping(parts: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Meanwhile, and at the end, keep the index of a collection. Never fails."""
    keeper = _Keeper(source_of_parts("", parts), patience)
    keeper.start()
    try:
        yield
    finally:
        keeper.close()


@contextlib.contextmanager
def keeping_published(*files: Path) -> Iterator[None]:
    """Meanwhile, make the index of files that were published in a root: rows, and failures beside them. Never fails."""
    root = next((each for each in files[0].parents if (each / INSIDE / "stages").is_dir()), None)
    source = Source("", files, kept=kept_in_root(files[0], root) if root else None)
    child = _start(source) if root and _size(source) >= FEW else None
    try:
        yield
    finally:
        _wait(child, LONGEST)


class _Keeper:
    """The thread that looks how much is there, and starts who reads it."""

    def __init__(self, source: Source, patience: float) -> None:
        self._source = source
        self._patience = patience
        self._seen = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_ending.wait(EVERY):
            if self._child is None or self._child.poll() is not None:
                self._look(SHARE)
        ends = time.monotonic() + self._patience
        if _wait(self._child, self._patience):
            if self._child is not None and self._child.returncode:
                self._seen = 0
            self._look(0.0)
            _wait(self._child, ends - time.monotonic())

    def _look(self, share: float) -> None:
        there = _size(self._source)
        if there - self._seen >= max(FEW, share * there):
            self._seen = there
            self._child = _start(self._source)


def _size(source: Source) -> int:
    """Bytes that are there; 0 where nobody can say."""
    try:
        return sum(path.stat().st_size for path in source.parts())
    except OSError:
        return 0


def _start(source: Source) -> subprocess.Popen[bytes] | None:
    said = {
        "files": [str(path) for path in source.files],
        "directory": str(source.directory) if source.directory else None,
        "kept": str(source.kept),
        "is_collection": source.is_collection,
    }
    command = [sys.executable, "-m", __name__, json.dumps(said)]
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{NOT_KEPT}: {error}\n")
        return None


def _wait(child: subprocess.Popen[bytes] | None, seconds: float) -> bool:
    """Whether it ended by itself in that many seconds; otherwise it is ended now."""
    if child is None:
        return True
    try:
        child.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Bring the index of one source up to date."""
    os.nice(NICE)
    said = json.loads(arguments[0])
    directory = Path(said["directory"]) if said["directory"] else None
    files = tuple(map(Path, said["files"]))
    source = Source("", files, directory, Path(said["kept"]), is_collection=said["is_collection"])
    try:
        follower = keep(source)
    except OSError as error:
        sys.stderr.write(f"{NOT_KEPT}: {error}\n")
        return 1
    if not follower.is_kept:
        sys.stderr.write(f"{NOT_KEPT}: {follower.notice}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
