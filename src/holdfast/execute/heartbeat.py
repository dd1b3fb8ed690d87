"""Keeps a claim alive by counting in a file, notices that it was lost, and says how an attempt ended.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from holdfast.core import attempt
from holdfast.core.attempt import Claim

RENEWAL_LIMIT = 30.0


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; `outcome` is complete, failed, stopped, cancelled, or taken over."""

    outcome: str
    reason: str
    code: int | None = None


class Interrupted(Exception):
    """The work must end now; carries the ending."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.ending = Ending(outcome, reason)


class Heartbeat:
    """Renews a claim by counting in a file, and notices that it was lost."""

    def __init__(self, claim: Claim, seconds: float) -> None:
        self.claim = claim
        self.seconds = seconds
        self.count = 0
        self.next = 0.0
        self.renewed = time.monotonic()

    def renew(self) -> None:
        """Count on, if it is time.

        Raises:
            Interrupted: somebody took over, or the file could not be written for 30 s.
        """
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        try:
            self.check()
            self.count += 1
            self._write()
            self.renewed = time.monotonic()
        except OSError as error:
            self.next = time.monotonic() + min(1.0, self.seconds)
            if time.monotonic() - self.renewed > RENEWAL_LIMIT:
                raise Interrupted(
                    "failed", f"could not renew its claim for {RENEWAL_LIMIT:.0f} s: {error.strerror}"
                ) from None

    def check(self) -> None:
        """Whether the claim is still ours.

        Raises:
            Interrupted: somebody took over, or declared us dead.
        """
        if attempt.entry(self.claim.path.parent, self.claim.n + 1).exists():
            raise Interrupted("taken over", f"attempt {self.claim.n + 1} took over")
        if (self.claim.directory / "exit.json").exists():
            raise Interrupted("taken over", "its claim was ended by somebody else")

    def _write(self) -> None:
        """Over the old count, which needs no space on a disk that is full."""
        fd = os.open(self.claim.heartbeat, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(fd, f"{self.count:016d}\n".encode(), 0)
        finally:
            os.close(fd)
