"""How a program is asked to end, and ended if it does not.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

from holdfast.core.attempt import Claim


class Patience:
    """Asks a child to end, then insists: the stop file, SIGTERM after `grace` seconds, SIGKILL five seconds later.

    A program that is not ours does not read the stop file: it is sent SIGTERM at once (`ask_first`) and has `grace`
    seconds. One that saves on a signal (`save`) is sent that first.
    """

    def __init__(self, grace: float, *, ask_first: bool, save: int = 0) -> None:
        ask_first = ask_first and not save
        self.save = save
        last_word = grace if ask_first else grace + 5.0
        self.steps: list[tuple[float, Callable[[subprocess.Popen[bytes], Claim], None]]] = [
            (0.0, lambda _, claim: (claim.directory / "stop").touch()),
            *([(0.0, lambda child, _: _signal_group(child, save))] if save else []),
            (0.0 if ask_first else grace, lambda child, _: _signal_group(child, signal.SIGTERM)),
            (max(last_word, 5.0), lambda child, _: _signal_group(child, signal.SIGKILL)),
        ]
        self.started: float | None = None
        self.taken = 0

    def press(self, child: subprocess.Popen[bytes], claim: Claim) -> None:
        """Take the steps that are due."""
        now = time.monotonic()
        self.started = now if self.started is None else self.started
        while self.steps and now - self.started >= self.steps[0][0]:
            self.steps.pop(0)[1](child, claim)
            self.taken += 1

    def words(self, code: int) -> str:
        """What became of a child that was asked to end, where that lost what it had not saved; `code` is its own, or
        the one of a shell or an srun around it.
        """
        if self.save and code in (-self.save, 128 + self.save):
            name = signal.Signals(self.save).name
            return f"; {name}, on which its profile says that it saves, ended it at once"
        if not self.steps and code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return "; it did not end when it was asked to, and was killed"
        return ""


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return
