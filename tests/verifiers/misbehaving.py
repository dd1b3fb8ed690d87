"""Verifiers of somebody's own, of the kinds that break those who call them in their own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.verifiers import Grade


def behave(response: str, solution: Any) -> object:
    """Does what the response says."""
    word, _, rest = response.partition(" ")
    does: dict[str, Callable[[str], object]] = {
        "power": _power,
        "regex": _regex,
        "exit": _exit,
        "kill": lambda _: os.kill(os.getpid(), 9),
        "eat": _eat,
        "print": _print,
        "raise": _raise,
        "text": str,
        "nan": lambda _: float("nan"),
        "pid": lambda _: Grade(1.0, str(os.getpid())),
        "nice": lambda _: Grade(1.0, "x" * 10_000),
        "child": _child,
        "input": lambda _: Grade(0.0, repr(sys.stdin.read())),
    }
    return does[word](rest) if word in does else response == solution


def _power(rest: str) -> float:
    return float(9**9**9 > 1)  # in C, where no signal handler runs


def _regex(rest: str) -> bool:
    return re.fullmatch(r"(a+)+b", "a" * 60) is not None


def _exit(rest: str) -> None:
    os._exit(3)


def _eat(rest: str) -> float:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def _print(rest: str) -> bool:
    print("a line that is no reply")
    os.write(1, b'{"id": 1, "reward": 1.0, "answer": null}\n')
    return True


def _raise(rest: str) -> float:
    raise LookupError("the solution has no such part")


def _child(rest: str) -> float:
    """Starts a program that outlives us, and hangs."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    Path(rest).write_text(str(child.pid))
    time.sleep(600)
    return 1.0


class NotCalled:
    """A module's names are not all functions."""


number = 3
