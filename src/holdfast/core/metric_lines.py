"""Lines of `metrics.jsonl`: `{step, name, value, time, attempt}`, one value each, appended by whoever does the work.

All lines of one call go out in a single write, so that those who read along see all of them or none. A line that a full
disk cut short is left as it is and ended before the next one: readers pass over what is not a whole line of ours.
Standard library only: `import holdfast` must cost a training script nothing.
"""

from __future__ import annotations

import atexit
import errno
import json
import math
import operator
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

VARIABLE = "HOLDFAST_METRICS"
SETTLED = 0.01


def encode(step: SupportsIndex, values: Mapping[str, SupportsFloat], attempt: int) -> bytes:
    """The lines of one call. What JSON has no number for is the string "NaN", "Infinity" or "-Infinity".

    Raises:
        TypeError: the step is no whole number, a value no number, or a metric is called `step`.
    """
    now = time.time()
    lines = []
    for name, value in values.items():
        if name == "step":
            raise TypeError("`step` is the axis, not a metric: holdfast.log(step=3, loss=0.1)")
        row = {"step": _whole(step), "name": name, "value": _number(name, value), "time": now, "attempt": attempt}
        lines.append(json.dumps(row) + "\n")
    return "".join(lines).encode()


def _whole(step: SupportsIndex) -> int:
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"step is {step!r}, expected a whole number") from None


def _number(name: str, value: SupportsFloat) -> float | str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metric {name!r} is {value!r}, expected a number") from None
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def append(path: str | Path, lines: bytes) -> bytes:
    """Append whole lines in one write; returns those that no longer fit on the disk.

    Raises:
        OSError: not one byte was written.
    """
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        lead = 0 if _ends_whole(fd) else 1
        written = os.write(fd, b"\n" * lead + lines) - lead
    finally:
        os.close(fd)
    return lines[lines.rfind(b"\n", 0, max(0, written)) + 1 :]


def append_all(path: str | Path, lines: bytes) -> None:
    """As `append`, where lines that no longer fit are an error."""
    if append(path, lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _ends_whole(fd: int) -> bool:
    """Whether nothing is torn. While others append, a size can be seen that is the middle of theirs: it moves on."""
    size = -1
    while size != (now := os.fstat(fd).st_size):
        size = now
        if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
            return True
        time.sleep(SETTLED)
    return False


class _Log:
    """What a full disk refuses waits for the next call, and at last for the end of the process."""

    def __init__(self) -> None:
        self.waiting = b""
        self.warned = False

    def write(self, path: str, lines: bytes) -> None:
        lines = self.waiting + lines
        try:
            self.waiting = append(path, lines)
        except OSError as error:
            self.waiting = lines
            self._warn(path, error.strerror or str(error))

    def _warn(self, path: str, why: str) -> None:
        if not self.warned:
            self.warned = True
            atexit.register(self.write, path, b"")
            sys.stderr.write(f"holdfast.log: {path}: {why}; metrics are kept until they can be written\n")


_log = _Log()


def log(values: Mapping[str, SupportsFloat], step: SupportsIndex) -> None:
    """Append metrics to the file that `$HOLDFAST_METRICS` names; outside of a stage they are checked and dropped."""
    attempt = os.environ.get("HOLDFAST_ATTEMPT_NUMBER", "")
    lines = encode(step, values, int(attempt) if attempt.isdigit() else 0)
    path = os.environ.get(VARIABLE)
    if path and lines:
        _log.write(path, lines)
