"""One line that says how a collection goes: done, owed, rate, tokens, time left, failures. On a terminal it is written
over and over, elsewhere now and then.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.core import attempt
from holdfast.core.plan import IN_FLIGHT

if TYPE_CHECKING:
    from holdfast.core.plan import Standing
    from holdfast.core.record import Record
    from holdfast.core.store import Store

INTERVAL = 0.5
SAY_EVERY = 10.0
LONGEST_VIEW = 300.0
"""Seconds that the analysis is waited for."""
CLEAR = "\r\x1b[2K"


def watch(look: Callable[[], Sequence[Standing]], interval: float = INTERVAL) -> None:
    """Show how it goes on stderr until nothing is in flight."""
    is_live = sys.stderr.isatty()
    shown, next_time = "", 0.0
    while True:
        found = look()
        words = state_words(found)
        line = f"{words}{progress_line(_of(found))}"
        if is_live:
            print(CLEAR + line, end="", file=sys.stderr, flush=True)
        elif words != shown or time.monotonic() >= next_time:
            shown, next_time = words, time.monotonic() + SAY_EVERY
            print(line, file=sys.stderr, flush=True)
        if not any(each.state in IN_FLIGHT for each in found):
            if is_live:
                print(file=sys.stderr)
            return
        time.sleep(interval)


def wait_for_views(store: Store, record: Record, seconds: float = LONGEST_VIEW) -> None:
    """Wait until the attempt that published has ended: what is shown of a collection is made after that is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        last = attempt.newest(store.attempts(record.key))
        if last is None or last.ending() is not None:
            return
        time.sleep(0.1)


def state_words(found: Sequence[Standing]) -> str:
    """`name: running`, with the reason of what waits or is owed; of slices how many are in which state."""
    if len(found) == 1:
        only = found[0]
        reason = f" ({only.reason})" if only.reason and not only.reason.startswith("pid ") else ""
        return f"{only.record.name}: {only.state}{reason}"
    counts = Counter(str(each.state) for each in found[:-1])
    slices = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{found[-1].record.name}: {found[-1].state}, slices {slices}"


def progress_line(progress: Sequence[Mapping[str, Any]]) -> str:
    """What all of them together say; empty while nobody does."""
    if not progress:
        return ""
    done, total = (sum(int(each[name]) for each in progress) for name in ("done", "total"))
    rate, tokens = (sum(float(each.get(name) or 0) for each in progress) for name in ("rate", "token_rate"))
    failed: Counter[str] = Counter()
    for each in progress:
        failed.update(each.get("failed") or {})
    left = f", {_duration((total - done) / rate)} left" if rate and done < total else ""
    told = "".join(f", {count:,} {kind}" for kind, count in sorted(failed.items()))
    return f"  {done:,} of {total:,} done, {total - done:,} owed, {rate:.1f}/s, {tokens:,.0f} tokens/s{left}{told}"


def _of(found: Sequence[Standing]) -> list[dict[str, Any]]:
    """The records of how far they are, of those that collect."""
    claims = [each.claim for each in found if each.claim]
    return [progress for claim in claims if (progress := claim.progress()) and progress["unit"] == "rollout"]


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60:02d} min"
    return f"{rest // 60} min {rest % 60:02d} s" if rest >= 60 else f"{rest} s"
