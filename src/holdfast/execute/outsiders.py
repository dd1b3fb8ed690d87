"""What a supervisor does for a program that is not ours: sees that its files are the planned ones, and how far it is.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.attempt import Claim
from holdfast.core.job import Task

METRICS = "metrics.jsonl"


def changed_files(task: Task, directory: str) -> str:
    """Which file that is part of the key is not any more what was submitted, in words; empty if none."""
    for name, wanted in task.reads.items():
        path = Path(task.directory or directory) / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        if found != wanted:
            return f"{path} changed after this was submitted ({found[:12]}, expected {wanted[:12]}): launch it again"
    return ""


def make_folders(task: Task, home: Path, claim: Claim) -> None:
    """The directories that the program may expect, and in `logs` a link to what this attempt prints."""
    for name in task.folders:
        (home / name).mkdir(parents=True, exist_ok=True)
    if "logs" in task.folders:
        link = home / "logs" / f"attempt-{claim.n:03d}.log"
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.relpath(claim.output, link.parent), link)


def stop_signal(task: Task) -> int:
    """The signal that asks this program to save, 0 if there is none."""
    return int(getattr(signal.Signals, f"SIG{task.stop_signal.removeprefix('SIG')}")) if task.stop_signal else 0


def note_progress(task: Task, home: Path, claim: Claim) -> None:
    """Write how far the program is into `progress.json` of its attempt, as our own kinds do.

    `task.progress` is `{"checkpoints": [globs], "total": steps or None}`. What counts is the highest number in the name
    of a checkpoint, or the step of the last line of the metrics.
    """
    if not task.progress:
        return
    done = reached(home, task.progress["checkpoints"])
    total = task.progress.get("total")
    if not done:
        return
    content = files.encode({"done": done, "total": total or done, "unit": "step"})
    path = claim.directory / "progress.json"
    with contextlib.suppress(OSError):
        if not path.exists() or path.read_bytes() != content:
            files.replace(path, content)


def reached(home: Path, checkpoints: Iterable[str]) -> int:
    """The highest step that the program has shown: by a checkpoint, or in its metrics."""
    return max([newest(home, checkpoints)[0], _last_step(home / METRICS)])


def newest(home: Path, checkpoints: Iterable[str]) -> tuple[int, Path | None]:
    """The checkpoint with the highest number in its name, and that number; (0, None) where there is none."""
    best: tuple[int, Path | None] = (0, None)
    for glob in checkpoints:
        folder = home / os.path.dirname(glob)
        pattern = re.compile(re.escape(os.path.basename(glob)).replace(r"\*", r"(\d+)"))
        for name in _names(folder):
            match = pattern.fullmatch(name)
            if match and int(match[1]) >= best[0]:
                best = (int(match[1]), folder / name)
    return best


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _last_step(path: Path) -> int:
    try:
        row: Any = json.loads(files.last_line(path) or b"{}")
        return int(row.get("step", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0
