"""Counts the boundaries of durable writes in a process, and ends it with SIGKILL at one of them.

Python imports a module of this name at its start, so that putting this directory on PYTHONPATH reaches every process of
a run, the frozen supervisor included. Below CRASH_ROOT, each os.write, pwrite, copy_file_range, ftruncate, fsync, link,
rename, replace, symlink, mkdir, unlink, fallocate and syncfs is one boundary, in whichever thread.

    CRASH_ROOT   only paths below it count; nothing happens without it
    CRASH_ROLE   only in processes of this role: submit, runner, supervisor, run, finish
    CRASH_LIST   append a line "role number operation path" per boundary to this file
    CRASH_AT     N.before or N.after: die there, once per CRASH_ONCE (a file that must not exist yet)
    CRASH_FIRST  instead of CRASH_AT: before the first operation of one of these names, with commas between them
    CRASH_STOPS  if set, stop there (SIGSTOP) and wait to be sent on
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

BY_PATH = {"link": 1, "rename": 1, "replace": 1, "symlink": 1, "mkdir": 0, "unlink": 0}
"""Which argument is the path that changes."""
BY_FILE = {"write": 0, "pwrite": 0, "pwritev": 0, "ftruncate": 0, "fsync": 0, "copy_file_range": 1}
"""Which argument is the descriptor of the file that changes."""
BY_LIBRARY = ("syncfs", "fallocate")
"""Called through ctypes, with the descriptor first."""
SHOWN_ONLY = "progress.json"
"""Written as often as time allows, and believed by nobody."""


def role(arguments: list[str]) -> str:
    """Which of the processes of a run this is."""
    if "holdfast.stages" in arguments:
        return arguments[arguments.index("holdfast.stages") + 1]
    for number, argument in enumerate(arguments):
        if argument.endswith("supervisor.pyz"):
            return "runner" if len(arguments) == number + 2 else "supervisor"
    return "submit" if any("holdfast.cli.main" in argument for argument in arguments) else "other"


class Boundaries:
    """The count of this process."""

    def __init__(self, environ: Mapping[str, str], role: str) -> None:
        self.root = environ["CRASH_ROOT"]
        self.role = role
        self.list = environ.get("CRASH_LIST", "")
        number, _, self.when = environ.get("CRASH_AT", "").partition(".")
        self.at = int(number or -1)
        self.once = environ.get("CRASH_ONCE", "")
        self.first = environ.get("CRASH_FIRST", "").split(",")
        self.signal = signal.SIGSTOP if environ.get("CRASH_STOPS") else signal.SIGKILL
        self.count = 0
        self.lock = threading.Lock()
        self.write, self.open, self.link = os.write, os.open, os.link

    def install(self) -> None:
        """Put the counting calls in the place of the real ones."""
        for name, position in BY_PATH.items():
            setattr(os, name, self.counted(name, getattr(os, name), functools.partial(self.path_of, position)))
        for name, position in BY_FILE.items():
            setattr(os, name, self.counted(name, getattr(os, name), functools.partial(self.path_of_file, position)))
        library = ctypes.CDLL
        boundaries = self

        class Library(library):  # type: ignore[misc, valid-type]  # a subclass of what the variable holds
            def __getattr__(self, name: str) -> Any:
                function = super().__getattr__(name)
                path_of = functools.partial(boundaries.path_of_file, 0)
                return boundaries.counted(name, function, path_of) if name in BY_LIBRARY else function

        ctypes.CDLL = Library  # type: ignore[misc]  # on purpose

    def counted(self, name: str, real: Callable[..., Any], path_of: Callable[..., str]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            path = path_of(*arguments)
            if not path.startswith(self.root) or path.endswith(SHOWN_ONLY):
                return real(*arguments, **named)
            with self.lock:
                number, self.count = self.count, self.count + 1
            if self.list:
                self.note(number, name, path)
            if name in self.first:
                self.at, self.when = number, "before"
                self.first = []
            self.crash(number, "before")
            try:
                return real(*arguments, **named)
            finally:
                self.crash(number, "after")

        return call

    def path_of(self, position: int, *arguments: Any) -> str:
        return os.path.abspath(os.fsdecode(arguments[position]))

    def path_of_file(self, position: int, *arguments: Any) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{arguments[position]}")
        except OSError:
            return ""

    def note(self, number: int, name: str, path: str) -> None:
        fd = self.open(self.list, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.write(fd, f"{self.role} {number} {name} {path.removeprefix(self.root)}\n".encode())
        os.close(fd)

    def crash(self, number: int, when: str) -> None:
        if (number, when) != (self.at, self.when):
            return
        if self.once:
            try:
                os.close(self.open(self.once, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        os.kill(os.getpid(), self.signal)


if os.environ.get("CRASH_ROOT") and os.environ.get("CRASH_ROLE", role(sys.orig_argv)) == role(sys.orig_argv):
    Boundaries(os.environ, role(sys.orig_argv)).install()
