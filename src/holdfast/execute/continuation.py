"""Decides whether an attempt that its time limit ended goes on in another allocation, and a failed one is tried again.

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
from holdfast.core.job import Job, Task
from holdfast.execute.heartbeat import Ending

MISTAKE = 2
"""The exit code of `holdfast.stages` for what a person has to mend."""
LONG_ATTEMPT = 120.0
"""Seconds after which an attempt did not end at once."""
LONGEST_PAUSE = 60.0


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


def no_other_try(job: Job, task: Task, claim: Claim, now: dict[str, int], ending: Ending, began: bool) -> str:
    """Why a failed attempt is not followed by another one by itself; empty if it is. `began`: whether the work itself
    was started, and not only what it needs.
    """
    before = [found for each in earlier(claim) if each.job == job.token and (found := each.ending())]
    if ending.code == MISTAKE:
        return "another try would meet it again"
    if not began and not any(each.get("reached", {}).get("done") for each in before):
        return "what it needs has never started yet"
    if (idle := _idle(before, now)) >= task.retries:
        return f"{idle} attempts in a row without progress"
    return ""


def pause(claim: Claim, job: Job) -> float:
    """Seconds to wait before the next try: longer with every attempt that ended at once."""
    short = 0
    for each in reversed([*earlier(claim), claim]):
        ending = each.ending()
        if each.job != job.token or not ending or ending["finished"] - each.started > LONG_ATTEMPT:
            break
        short += 1
    return float(min(2 ** max(0, short - 1), LONGEST_PAUSE))


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
