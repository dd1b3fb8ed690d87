"""Decides whether an attempt that its time limit ended goes on in another allocation.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from holdfast.core import attempt
from holdfast.core.attempt import Claim
from holdfast.core.job import Job


def reached(claim: Claim, out: Path) -> dict[str, int]:
    """How far an attempt came, by what it shows: its progress, and how much its metrics have grown to."""
    progress = claim.progress()
    size = 0
    with contextlib.suppress(OSError):
        size = os.stat(out / "metrics.jsonl").st_size
    return {"done": int(progress["done"]) if progress else 0, "metrics": size}


def refusal(job: Job, earlier: Iterable[Claim], claim: Claim, now: dict[str, int], seconds: float) -> str:
    """Why an attempt is not to be continued by itself; empty if it is.

    `earlier` are the attempts before `claim`, oldest first; `seconds` is how long `claim` took.
    """
    ended = [(each, ending) for each in earlier if each.job == job.token and (ending := each.ending())]
    spent = seconds + sum(max(0.0, ending["finished"] - each.started) for each, ending in ended)
    if job.max_seconds and spent >= job.max_seconds:
        return f"not continued: {spent:.0f} s were used, {job.max_seconds:.0f} s are allowed"
    idle = _idle([ending for _, ending in ended], now)
    if idle >= job.max_idle:
        return f"not continued: {idle} attempts in a row without progress"
    return ""


def _idle(endings: Iterable[dict[str, Any]], now: dict[str, int]) -> int:
    """How many attempts in a row, up to this one, reached nothing new."""
    best = {"done": 0, "metrics": 0}
    idle = 0
    for mark in [*(ending["reached"] for ending in endings if "reached" in ending), now]:
        grown = any(mark.get(name, 0) > best[name] for name in best)
        idle = 0 if grown else idle + 1
        best = {name: max(best[name], mark.get(name, 0)) for name in best}
    return idle


def earlier(claim: Claim) -> list[Claim]:
    """The attempts of the same stage before this one, oldest first."""
    return [attempt.read(claim.path.parent, n) for n in range(1, claim.n)]
