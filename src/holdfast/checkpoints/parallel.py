"""Many threads over one list of work, with progress, an end at the first error, and a stop when asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from holdfast.core.errors import Stopped

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
Work = Callable[[], AbstractContextManager[Callable[[Item], int]]]
MOST_THREADS = 8
LOOK_SECONDS = 0.2


def default_threads() -> int:
    """One for each processor that we may use, at least 2 (one waits for the disk), at most 8 (each has its buffers)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(MOST_THREADS, available))


class _Shared(Generic[Item]):
    """The list of work, how much of it is done, and whether it is to end."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.ended = threading.Event()
        self.done = 0
        self._items = iter(items)
        self._lock = threading.Lock()

    def loop(self, work: Work[Item]) -> None:
        """Take items until there are none; an error ends the other threads, too."""
        is_finished = False
        try:
            with work() as do:
                while not self.ended.is_set():
                    with self._lock:
                        item = next(self._items, None)
                    if item is None:
                        break
                    count = do(item)
                    with self._lock:
                        self.done += count
            is_finished = True
        finally:
            if not is_finished:
                self.ended.set()


def run(
    items: Iterable[Item],
    work: Work[Item],
    total: int,
    threads: int | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Do each item once. `work` makes what does it, once for each thread; it returns how much of `total` was done.

    `progress(done, total)` and `stop()` are called in this thread, several times a second.

    Raises:
        Stopped: `stop` said so before all was done.
        Any error of `work`; the other threads have ended then.
    """
    shared, is_stopped = _Shared(items), False
    count = threads or default_threads()
    with ThreadPoolExecutor(count, "holdfast-bytes") as pool:
        futures = [pool.submit(shared.loop, work) for _ in range(count)]
        pending = set(futures)
        try:
            while pending:
                _, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                if progress:
                    progress(shared.done, total)
                if stop and not is_stopped and shared.done < total and stop():
                    is_stopped = True
                    shared.ended.set()
        finally:
            shared.ended.set()
    for future in futures:
        future.result()
    if is_stopped and shared.done < total:
        raise Stopped(f"stopped after {shared.done} of {total} bytes")
