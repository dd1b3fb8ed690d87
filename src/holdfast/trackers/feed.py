"""Feeds one tracker from one `metrics.jsonl`, by one process at a time, from where the last one came to."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from holdfast.core import artifact, attempt, files, process
from holdfast.core.attempt import Claim
from holdfast.trackers import Mark, Row, Subject, Tracker, cursor, load
from holdfast.trackers.cursor import Cursor
from holdfast.trackers.lines import Lines

BATCH = 1000


class Feed:
    """`pump` hands over what is new, `finish` also closes the destination.

    The destination is opened, and the right to feed it claimed, only when there is something to hand over.
    """

    def __init__(self, name: str, subject: Subject, environ: Mapping[str, str]) -> None:
        self.tracker: Tracker = load(name)(subject, environ)
        self.subject = subject
        self.source = subject.home / artifact.METRICS
        label = hashlib.sha256(self.tracker.destination().encode()).hexdigest()[:8]
        self.place = subject.records / f"{files.safe_name(name)}-{label}.json"
        self.cursor = Cursor()
        self.reader: Lines | None = None
        self.unproven: deque[tuple[int, int]] = deque()
        self._claim: Claim | None = None
        self._ended = threading.Event()

    def is_owed(self) -> bool:
        """Whether the destination lacks something, as far as our own files say."""
        known = cursor.read(self.place)
        if not known.fits(self.source):
            return bool(cursor.head_of(self.source))
        return self._has_more(known) or bool(known.head and not known.settled)

    def begin_again(self) -> None:
        """Forget what was sent: all of it is sent once more, to a new run."""
        self._take()
        known = cursor.read(self.place)
        if known.head:
            cursor.write(self.place, known.again())

    def pump(self) -> int:
        """Hand over what was appended since; returns the number of rows.

        Raises:
            Held: another process feeds this destination.
        """
        if self.reader is None:
            known = cursor.read(self.place)
            if not cursor.head_of(self.source) or (known.fits(self.source) and not self._has_more(known)):
                return 0
        return self._hand_over()

    def finish(self, code: int) -> None:
        """Hand over the rest and close."""
        if self.reader is None and not self.is_owed():
            return
        reader = self._begin()
        self._hand_over()
        mark = self.tracker.close(self._rows, code)
        self._advance(reader, mark, drained=True, closed=True)
        self.release()

    def release(self) -> None:
        """Let others feed the destination."""
        self._ended.set()
        if self._claim:
            attempt.end(self._claim, "complete", "")

    def _hand_over(self) -> int:
        reader = self._begin()
        sent = 0
        for row in reader.rows():
            self.tracker.write(row)
            self.unproven.append((row.end, row.offset))
            sent += 1
            if sent % BATCH == 0:
                self._advance(reader, self.tracker.flush())
        if sent or self.unproven:
            self._advance(reader, self.tracker.flush(), drained=True)
        return sent

    def _begin(self) -> Lines:
        if self.reader is None:
            self._take()
            known = cursor.read(self.place)
            self.cursor = known if known.fits(self.source) else known.again()
            if not self.cursor.head:
                # On record before anything is sent: another file that comes to lie here is known to be another one.
                self._restart()
            there = self.tracker.open(self.cursor.mark, self.cursor.generation)
            if there < self.cursor.lines:
                self._restart()
            self.reader = Lines(self.source, there)
        return self.reader

    def _restart(self) -> None:
        """Put on record that nothing of this file is proven to be there."""
        fresh = Cursor(head=cursor.head_of(self.source), generation=self.cursor.generation)
        self.cursor = fresh.advanced(self.source, 0, Mark(), settled=False)
        cursor.write(self.place, self.cursor)

    def _rows(self) -> Iterator[Row]:
        assert self.reader
        return Lines(self.source).rows(self.reader.offset)

    def _advance(self, reader: Lines, mark: Mark | None, *, drained: bool = False, closed: bool = False) -> None:
        """Put on record what the destination is proven to have. `drained`: the reader is behind the last whole line."""
        if mark is None:
            return
        lines, offset = self.cursor.lines, self.cursor.offset
        while self.unproven and self.unproven[0][0] <= mark.lines:
            lines, offset = self.unproven.popleft()
        if drained and not self.unproven:
            lines, offset = reader.count, reader.offset
        settled = closed and not self.unproven
        new = self.cursor.advanced(self.source, offset, Mark(lines, mark.state), settled=settled)
        if new != self.cursor:
            cursor.write(self.place, new)
            self.cursor = new

    def _has_more(self, known: Cursor) -> bool:
        try:
            with open(self.source, "rb") as file:
                file.seek(known.offset)
                return any(b"\n" in block for block in iter(lambda: file.read(1 << 20), b""))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _take(self) -> None:
        if self._claim is None:
            sequence = self.place.with_suffix("")
            files.make_directories(sequence)
            self._claim = attempt.take(sequence, "", exclusive=False)
            # What our libraries start carries the token of this claim: whoever takes over can end it first.
            os.environ[process.ATTEMPT_VARIABLE] = self._claim.token
            threading.Thread(target=self._beat, args=(self._claim.heartbeat,), daemon=True).start()

    def _beat(self, path: Path) -> None:
        """Count in a file, so that other machines can see that we live."""
        count = 0
        while not self._ended.wait(attempt.HEARTBEAT_SECONDS):
            count += 1
            with contextlib.suppress(OSError):
                path.write_text(f"{count:016d}\n")
