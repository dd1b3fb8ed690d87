"""Shows metrics elsewhere: W&B, TensorBoard, a table. What is shown is a copy; `metrics.jsonl` is the truth.

A tracker is fed from that file by a process of its own (`python -m holdfast.trackers`), so nothing that happens to it
reaches the work. It may die at any moment: how far it came is asked of the destination or kept in a cursor, never
guessed, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.core.plugins import load_class

SHIPPED = {
    "wandb": "holdfast.trackers.wandb_run:WandbRun",
    "tensorboard": "holdfast.trackers.event_files:EventFiles",
    "files": "holdfast.trackers.table_file:TableFile",
}
SCRIPT_RUN = "HOLDFAST_WANDB_RUN"
"""The variable with the id of the W&B run that a launched script reports to by itself."""


@dataclass(frozen=True)
class Subject:
    """The stage whose metrics are shown. `records` is where a tracker may keep files of its own; `following`: the work
    goes on beside us, on this machine; `script_run`: the W&B run that its script writes itself, and nobody else may.
    """

    key: str
    name: str
    kind: str
    params: Mapping[str, Any]
    root: Path
    home: Path
    records: Path
    following: bool = False
    script_run: str = ""


@dataclass(frozen=True)
class Row:
    """The values that were logged together. `first` are the names that had no value at this step before.

    `end` counts the lines of `metrics.jsonl` up to and with this row, `offset` its bytes: both only grow.
    """

    step: int
    values: Mapping[str, float]
    first: frozenset[str]
    time: float | None
    attempt: int
    end: int
    offset: int


@dataclass(frozen=True)
class Mark:
    """What a destination durably has: the first `lines` lines, and what the tracker needs to know of it next time."""

    lines: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)


class Tracker:
    """One destination for the metrics of one stage, made where `environ` holds the user's variables.

    What the destination refuses is raised as `UserError` (tried again later) or `ConfigError` (not tried again).
    """

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        raise NotImplementedError

    def destination(self) -> str:
        """What tells this destination from others of the same tracker: a server and a project, say."""
        return ""

    def open(self, mark: Mark, generation: int) -> int:
        """Make ready to write; returns how many lines are there already. `mark` is what was proven last time.

        `generation` counts the fresh results of this stage (`--rerun`): each begins at line 0 of another file.
        """
        raise NotImplementedError

    def write(self, row: Row) -> None:
        """Show one row more."""
        raise NotImplementedError

    def flush(self) -> Mark | None:
        """What is proven to be durable by now, or None where that cannot be said."""
        raise NotImplementedError

    def close(self, rows: Callable[[], Iterator[Row]], code: int) -> Mark | None:
        """Finish; `rows` gives all of the file again, `code` is the exit code of the work. As `flush`."""
        raise NotImplementedError


def load(name: str) -> type[Tracker]:
    """The tracker of this name, or `package.module:Class`.

    Raises:
        ConfigError: there is none.
    """
    return load_class(name, SHIPPED, Tracker, "tracker")
