"""Many threads over one list of work, with progress, an end at the first error, and a stop when asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import TypeVar

from holdfast.core.errors import Stopped

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
MOST_THREADS = 8
LOOK_SECONDS = 0.2


def default_threads() -> int:
    """One for each processor that we may use, at least 2 (one waits for the disk), at most 8 (each has its buffers)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(MOST_THREADS, available))


def run(
    items: Iterable[Item],
    work: Callable[[], AbstractContextManager[Callable[[Item], int]]],
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
    shared, lock, ended = iter(items), threading.Lock(), threading.Event()
    done = 0

    def loop() -> None:
        nonlocal done
        finished = False
        try:
            with work() as do:
                while not ended.is_set():
                    with lock:
                        item = next(shared, None)
                    if item is None:
                        break
                    count = do(item)
                    with lock:
                        done += count
            finished = True
        finally:
            if not finished:
                ended.set()

    is_stopped = False
    with ThreadPoolExecutor(threads or default_threads(), "holdfast-bytes") as pool:
        futures = [pool.submit(loop) for _ in range(threads or default_threads())]
        pending = set(futures)
        try:
            while pending:
                _, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                if progress:
                    progress(done, total)
                if stop and not is_stopped and done < total and stop():
                    is_stopped = True
                    ended.set()
        finally:
            ended.set()
    for future in futures:
        future.result()
    if is_stopped and done < total:
        raise Stopped(f"stopped after {done} of {total} bytes")
