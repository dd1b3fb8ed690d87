"""Keeps the columns in step with their files in a thread, and says when there is more to see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.rollouts.columns_follow import Follower, Source

EVERY = 0.5
"""Seconds between two looks at the files."""
SAY_WHILE_READING = 0.5


class Live:
    """`follower` with its thread; `say` is told what changed, in that thread."""

    def __init__(self, source: Source, say: Callable[[Mapping[str, Any]], object], every: float = EVERY) -> None:
        self.follower = Follower(source)
        self.trouble = ""
        """Why the files cannot be read now; empty where they can."""
        self._say = say
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._teller = threading.Thread(target=self._tell, name="progress", daemon=True)

    @property
    def version(self) -> str:
        """Another one whenever something else is shown."""
        return f"{self.follower.generation}.{self.follower.columns.count}"

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()
        self._teller.start()

    def stop(self) -> None:
        """End it, and keep what was read."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self.follower.save()

    def state(self) -> dict[str, Any]:
        """How far the index is."""
        follower = self.follower
        return {
            "version": self.version,
            "rows": follower.columns.count,
            "progress": round(follower.progress, 4),
            "reading": follower.is_reading,
            "passed_over": follower.passed_over,
            "bad_lines": [f"{name}, line {line}" for name, line in follower.bad_lines()[:10]],
            "torn": follower.torn,
            "notice": self.trouble or follower.notice,
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.follower.refresh(self._stop.is_set)
                self.trouble = ""
            except OSError as error:
                self.trouble = f"cannot be read: {error}"
            self.follower.save()
            self._stop.wait(self._every)

    def _tell(self) -> None:
        """Say what changed; a thread of its own, since a first reading may take long."""
        said: dict[str, Any] = {}
        while not self._stop.is_set():
            now = self.state()
            if now != said:
                self._say(now)
                said = now
            self._stop.wait(min(self._every, SAY_WHILE_READING))
