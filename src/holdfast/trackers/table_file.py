"""`logs/metrics.csv` in the home: a line per step, a column per metric, for spreadsheets and data frames.

It is written anew as a whole, so what it shows is always what stands: the values of the last attempt.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping

from holdfast.core import files
from holdfast.trackers import Mark, Row, Subject, Tracker
from holdfast.trackers.lines import Table

PLACE = "logs/metrics.csv"
SECONDS = 5.0


class TableFile(Tracker):
    """Rewritten every few seconds, more rarely the longer that takes (a twentieth of the time at most)."""

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        self.path = subject.home / PLACE
        self.table = Table()
        self.end = 0
        self.next = 0.0

    def open(self, mark: Mark, generation: int) -> int:
        """Nothing is taken as there: the table is made from all rows."""
        return 0

    def write(self, row: Row) -> None:
        self.table.add(row)
        self.end = row.end

    def flush(self) -> Mark | None:
        if time.monotonic() < self.next:
            return None
        began = time.monotonic()
        self._rewrite()
        self.next = time.monotonic() + max(SECONDS, 20 * (time.monotonic() - began))
        return Mark(self.end)

    def close(self, rows: Callable[[], Iterator[Row]], code: int) -> Mark | None:
        self._rewrite()
        return Mark(self.end)

    def _rewrite(self) -> None:
        names = sorted(self.table.cells)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *names])
        for step, values in self.table.by_step().items():
            writer.writerow([step, *(values[name][0] if name in values else "" for name in names)])
        files.make_directories(self.path.parent)
        files.replace(self.path, text.getvalue().encode())
