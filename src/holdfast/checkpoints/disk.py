"""Space for files, bytes in them, and the disk kept busy: the system calls of `checkpoints.copy`."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from functools import cache
from pathlib import Path
from queue import Queue

from holdfast.core.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FLUSH_NOW = 2  # SYNC_FILE_RANGE_WRITE
MOST_ASKED = 512
"""Flushes that were asked for and did not begin; each has a descriptor."""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def reserve(fd: int, size: int) -> None:
    """Make a file this long, its space its own where the file system can do that.

    `os.posix_fallocate` would write zeros where it cannot, block by block over a network.

    Raises:
        OSError: the disk is full.
    """
    if sys.platform == "linux" and size:
        if _libc().fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(size)) == 0:
            return
        number = ctypes.get_errno()
        if number in FULL:
            raise OSError(number, os.strerror(number))
    free = os.fstatvfs(fd)
    if free.f_bavail * free.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)


def begin_flush(fd: int, offset: int, count: int) -> None:
    """Let the kernel write these bytes to the disk from now on; the fsync at the end then has little to wait for.

    A hint: without it the kernel begins when a tenth of the memory is dirty.
    """
    if sys.platform == "linux":
        _libc().sync_file_range(fd, ctypes.c_long(offset), ctypes.c_long(count), FLUSH_NOW)


class Flusher:
    """Begins flushes in a thread of its own, for `sync_file_range` waits where the disk has much to do. The thread goes
    on with what was asked for after the block, but not after an error in it.
    """

    def __init__(self) -> None:
        self._asked: Queue[tuple[int, int, int] | None] = Queue(MOST_ASKED)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="holdfast-flush", daemon=True)

    def __enter__(self) -> Flusher:
        self._thread.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._is_over = error is not None
        self._asked.put(None)

    def begin(self, fd: int, offset: int, count: int) -> None:
        """As `begin_flush`; the descriptor may be closed meanwhile."""
        try:
            self._asked.put((os.dup(fd), offset, count))
        except OSError:  # too many are open
            begin_flush(fd, offset, count)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            if not self._is_over:
                begin_flush(*asked)
            os.close(asked[0])


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """`os.pwrite` until nothing is left."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def explain(error: OSError, path: Path, size: int | None = None) -> OSError | UserError:
    """A full disk in words; any other error as it is."""
    if error.errno not in FULL:
        return error
    needs = f", which needs {size} bytes" if size else ""
    return UserError(f"{path}: {error.strerror}{needs}", f"make room: df -h {path.parent}")
