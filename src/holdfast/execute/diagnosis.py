"""Finds in what a program printed the lines that say why it failed. Standard library only: it is frozen."""

from __future__ import annotations

import re
import signal

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x08\x0b-\x1f\x7f]")
ERROR = re.compile(
    r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|Timeout)\b|\berror:|\bfatal:|out of memory|No space left",
    re.IGNORECASE,
)
BAR = re.compile(r"\d+%\|.*\||^\s*\d+it \[")
"""A progress bar of tqdm: how far it was, and never why it ended."""
LONGEST = 300
WIDEST = 200


def plain(text: str) -> str:
    """`text` without escape sequences and control characters, so that a log cannot drive a terminal."""
    return ESCAPES.sub("", text)


def one_line(text: str) -> str:
    """What others wrote, as one line of a table."""
    return plain(" ".join(text.split()))[:WIDEST]


def telling_line(output: bytes) -> str:
    """The line that most likely says why: the last one that names an error, otherwise the last one at all."""
    lines = [line for line in _lines(output) if not BAR.search(line)]
    errors = [line for line in lines if ERROR.search(line)]
    return (errors or lines or [""])[-1][:LONGEST]


def telling_lines(output: bytes, count: int = 20) -> list[str]:
    """The lines that matter: the last traceback whole if it is short enough, otherwise the last `count` lines."""
    lines = _lines(output, keep_indent=True)
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    first = starts[-1] if starts else 0
    return lines[max(first, len(lines) - count) :]


def _lines(output: bytes, keep_indent: bool = False) -> list[str]:
    text = output.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = [plain(line).rstrip() for line in text.split("\n")]
    return [line if keep_indent else line.strip() for line in lines if line.strip()]


def exit_words(code: int) -> str:
    """How a process ended, in words: `exit code 1`, `killed by SIGKILL`."""
    return f"exit code {code}" if code >= 0 else f"killed by {_name(-code)}"


def memory_words(before: int | None, now: int | None) -> str:
    """What the kernel's count of processes that it ended for lack of memory says of a SIGKILL."""
    if before is None or now is None:
        return " (out of memory?)"
    return "; the kernel ended processes for lack of memory meanwhile" if now > before else ""


def signal_words(number: int) -> str:
    """That a signal asked for an end, in words."""
    return f"stopped by {_name(number)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
