"""Appends rows to one part and makes them durable in groups, in a thread of its own.

Lines reach the file a few milliseconds after `put`, so they survive the process; they are synced every 200 ms or 64
rows, so they survive the host, and only then are they acknowledged. `fsync` waits for no group: what there is is synced
at once, which costs some 10 ms of a disk for each few rows. `flush` never syncs: a host that dies may take the last
seconds with it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from holdfast.core import files

EVERY = 0.2
ROWS = 64
GATHER = 0.002
"""Seconds in which lines gather before they are written: a thread that wakes for each costs more than the writing."""
Durability = Literal["group", "fsync", "flush"]
Acknowledge = Callable[[Sequence[Any]], object]


class Writer:
    """One part, which must not exist yet; it is made with the first row. `acknowledge` is called in the writer's
    thread, with the tokens of rows that are durable.
    """

    def __init__(self, path: Path, acknowledge: Acknowledge | None = None, durability: Durability = "group") -> None:
        self._path = path
        self._durability = durability
        self._acknowledge = acknowledge or (lambda tokens: None)
        self._wake = threading.Condition()
        self._lines: list[bytes] = []
        self._tokens: list[Any] = []
        self._put = self._durable = 0
        self._is_closing = self._is_asked = False
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None

    def put(self, line: bytes, token: Any = None) -> None:
        """Take a line, without its end, to be written soon.

        Raises:
            OSError: an earlier line could not be written; nothing is written behind it.
        """
        self._check()
        with self._wake:
            self._lines.append(line)
            self._tokens.append(token)
            self._put += 1
            if len(self._lines) == 1:
                self._wake.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="row writer", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until everything is durable.

        Raises:
            OSError: it cannot be.
        """
        with self._wake:
            self._is_asked = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._durable == self._put or self.error is not None)
            self._is_asked = False
        self._check()

    def close(self) -> None:
        """Flush, and end the thread.

        Raises:
            OSError: something could not be written.
        """
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._check()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            try:
                files.fsync_path(self._path.parent)
                self._write_all(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            with self._wake:
                self.error = error
                self._wake.notify_all()

    def _write_all(self, descriptor: int) -> None:
        written: list[Any] = []
        due = float("inf")
        while True:
            lines, tokens, is_ending = self._take(due)
            if lines:
                files.write_all(descriptor, b"\n".join([*lines, b""]))
                due = time.monotonic() + EVERY if not written else due
                written += tokens
            if written and (self._is_due(written, due) or is_ending):
                if self._durability != "flush":
                    os.fsync(descriptor)
                self._tell(written)
                written, due = [], float("inf")
            if self._is_closing and not self._lines and not written:
                return
            time.sleep(GATHER)

    def _is_due(self, written: Sequence[Any], due: float) -> bool:
        return self._durability != "group" or len(written) >= ROWS or time.monotonic() >= due

    def _take(self, due: float) -> tuple[list[bytes], list[Any], bool]:
        """What waits; blocks until there is something to write or to sync."""
        with self._wake:
            timeout = None if due == float("inf") else max(0.0, due - time.monotonic())
            self._wake.wait_for(lambda: self._lines or self._is_closing or self._is_asked, timeout)
            lines, tokens = self._lines, self._tokens
            self._lines, self._tokens = [], []
            return lines, tokens, self._is_closing or self._is_asked

    def _tell(self, tokens: list[Any]) -> None:
        self._acknowledge(tokens)
        with self._wake:
            self._durable += len(tokens)
            self._wake.notify_all()
