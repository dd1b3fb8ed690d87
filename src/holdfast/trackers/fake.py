"""A tracker for tests that misbehaves as told: by whom it is fed, nothing may be lost, doubled, or held up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping

from holdfast.core import files
from holdfast.core.errors import UserError
from holdfast.trackers import Mark, Row, Subject, Tracker

VARIABLE = "HOLDFAST_FAKE_TRACKER"


class Unreliable(Tracker):
    """Appends rows to `fake.jsonl`; `$HOLDFAST_FAKE_TRACKER` says what goes wrong.

    `refuses`: it cannot be opened. `raises`: a bug. `hangs`: it never answers. `dies:N`: the process is killed after N
    rows, each time. `slow:S`: each row takes S seconds. Whatever it is, a row is only there once its line is whole.
    """

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        self.path = subject.records / "fake.jsonl"
        self.manner, _, number = environ.get(VARIABLE, "").partition(":")
        self.number = float(number or 0)
        self.written = 0
        self.end = 0

    def open(self, mark: Mark, generation: int) -> int:
        if self.manner == "refuses":
            raise UserError("the fake tracker cannot be reached", "it is told to")
        if self.manner == "hangs":
            time.sleep(86400)
        files.make_directories(self.path.parent)
        whole = self.path.read_bytes() if self.path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]
        self.path.write_bytes(whole)
        rows = [json.loads(line) for line in whole.splitlines()]
        self.end = max((row["end"] for row in rows if row["generation"] == generation), default=0)
        self.generation = generation
        return self.end

    def write(self, row: Row) -> None:
        if self.manner == "raises":
            raise ZeroDivisionError("the fake tracker has a bug")
        if self.manner == "slow":
            time.sleep(self.number)
        content = {"step": row.step, "values": dict(row.values), "end": row.end, "generation": self.generation}
        data = json.dumps(content).encode() + b"\n"
        with open(self.path, "ab", buffering=0) as file:
            if self.manner == "dies" and self.written >= self.number:
                file.write(data[: len(data) // 2])
                os.kill(os.getpid(), 9)
            file.write(data)
        self.written += 1
        self.end = row.end

    def flush(self) -> Mark | None:
        return Mark(self.end)

    def close(self, rows: Callable[[], Iterator[Row]], code: int) -> Mark | None:
        return Mark(self.end)
