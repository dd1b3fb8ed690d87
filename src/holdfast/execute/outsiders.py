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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.attempt import Claim
from holdfast.core.job import Task

METRICS = "metrics.jsonl"
LAUNCH_AGAIN = "launch it again"
CHECKPOINT = "{checkpoint}"
"""Stands in `task.progress["resume"]` for the path of the newest whole checkpoint."""


def changed_files(task: Task, directory: str) -> str:
    """Which file that is part of the key is not any more what was submitted, in words; empty if none."""
    if task.directory and not os.path.isdir(task.directory):
        return f"{task.directory}, where it was to run, is not there any more: {LAUNCH_AGAIN}"
    for name, wanted in task.reads.items():
        path = Path(task.directory or directory) / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        if found != wanted:
            return f"{path} changed after this was submitted ({found[:12]}, expected {wanted[:12]}): {LAUNCH_AGAIN}"
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


def resume_token(task: Task, home: Path, command: Iterable[str]) -> str:
    """What tells the program its newest whole checkpoint; empty where there is none, or the command says it already."""
    told = str(task.progress.get("resume", ""))
    key = told.partition(CHECKPOINT)[0].rstrip("=")
    checkpoint = _newest(home, task.progress)[1] if told else None
    if checkpoint is None or any(token == key or token.startswith(f"{key}=") for token in command):
        return ""
    return told.replace(CHECKPOINT, str(checkpoint))


def note_progress(task: Task, home: Path, claim: Claim) -> None:
    """Write how far the program is into `progress.json` of its attempt, as our own kinds do.

    `task.progress` is what `stages.profile.progress` says. What counts is the highest number in the name of a complete
    checkpoint, or the step of the last line of the metrics.
    """
    if not task.progress:
        return
    number, checkpoint = _newest(home, task.progress)
    done = max(number, _last_step(home / METRICS))
    if not done:
        return
    total = task.progress.get("total") or _total(checkpoint, task.progress)
    known: dict[str, Any] = {"total": total} if total else {"total": done, "open": True}
    content = files.encode(
        {"done": done, "unit": "step", **known, **({"checkpoint": checkpoint.name} if checkpoint else {})}
    )
    path = claim.directory / "progress.json"
    with contextlib.suppress(OSError):
        if not path.exists() or path.read_bytes() != content:
            files.replace(path, content)


def _newest(home: Path, known: Mapping[str, Any]) -> tuple[int, Path | None]:
    latest = number_in(home / known["latest"]) if known.get("latest") else None
    marks = {name: str(known.get(name, "")) for name in ("state", "unfinished")}
    return newest(home, known["checkpoints"], latest=latest, **marks)


def newest(
    home: Path, checkpoints: Iterable[str], *, state: str = "", unfinished: str = "", latest: int | None = None
) -> tuple[int, Path | None]:
    """The checkpoint with the highest number in its name, and that number; (0, None) where there is none.

    `state` is a file that it must hold, `unfinished` one that it must not, `latest` the highest number that counts.
    """
    best: tuple[int, Path | None] = (0, None)
    for glob in checkpoints:
        folder = home / os.path.dirname(glob)
        pattern = re.compile(re.escape(os.path.basename(glob)).replace(r"\*", r"(\d+)"))
        for name in _names(folder):
            match = pattern.fullmatch(name)
            if not match or int(match[1]) < best[0] or (latest is not None and int(match[1]) > latest):
                continue
            if _is_whole(folder / name, state, unfinished):
                best = (int(match[1]), folder / name)
    return best


def _is_whole(checkpoint: Path, state: str, unfinished: str) -> bool:
    if unfinished and (checkpoint / unfinished).exists():
        return False
    return not state or json_in(checkpoint / state) is not None


def json_in(path: Path) -> dict[str, Any] | None:
    """The mapping in a file that somebody else writes, None if it is not whole."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def number_in(path: Path) -> int:
    """The whole number in a file that somebody else writes, 0 if there is none."""
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return 0


def _total(checkpoint: Path | None, known: Mapping[str, Any]) -> int | None:
    """Where the program ends, by the state in its checkpoint."""
    if checkpoint is None or not known.get("state") or not known.get("of"):
        return None
    total = (json_in(checkpoint / known["state"]) or {}).get(known["of"])
    return total if type(total) is int and total > 0 else None


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _last_step(path: Path) -> int:
    try:
        row: Any = json.loads(files.last_line(path) or b"{}")
        return int(row.get("step", 0))
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0
