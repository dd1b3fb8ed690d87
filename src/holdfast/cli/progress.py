"""Shows work as it goes on: a live table on a terminal, a plain line per change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from holdfast.cli import table
from holdfast.core.plan import IN_FLIGHT, Plan, Standing, standings
from holdfast.core.store import Store

INTERVAL = 2.0
SAY_EVERY = 10.0


def watch(look: Callable[[], Sequence[Standing]], interval: float = INTERVAL) -> None:
    """Show standings on stderr until nothing is in flight."""
    if sys.stderr.isatty():
        _watch_live(look, interval)
    else:
        _watch_plain(look, interval)


def wait_for(plan: Plan, store: Store, interval: float = 0.5) -> None:
    """Wait until nothing of a plan is in flight."""
    watch(lambda: standings(plan, store), interval)


def _watch_live(look: Callable[[], Sequence[Standing]], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            found = look()
            text = "\n".join(table.lines(found, coloured=True))
            live.update(Text.from_ansi(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            if not any(standing.state in IN_FLIGHT for standing in found):
                return
            time.sleep(interval)


def _watch_plain(look: Callable[[], Sequence[Standing]], interval: float) -> None:
    """A line when the state changes, and every ten seconds one of how far it is, how long it took, what is left."""
    shown: dict[str, str] = {}
    begun: dict[str, tuple[float, int]] = {}
    next_time: dict[str, float] = {}
    while True:
        found = look()
        now = time.monotonic()
        for standing in found:
            key, name = standing.record.key, standing.record.name
            line = f"{name}: {standing.state} {standing.reason}".rstrip()
            if shown.get(key) != line:
                shown[key] = line
                next_time[key] = now + SAY_EVERY
                print(line, file=sys.stderr, flush=True)
            elif now >= next_time[key] and (far := table.how_far(standing)):
                next_time[key] = now + SAY_EVERY
                print(f"{name}: {far}{_time(standing, begun, now)}", file=sys.stderr, flush=True)
        if not any(standing.state in IN_FLIGHT for standing in found):
            return
        time.sleep(interval)


def _time(standing: Standing, begun: dict[str, tuple[float, int]], now: float) -> str:
    """How long we have watched a stage, and by the rate since then how long it will take."""
    progress = (standing.claim.progress() if standing.claim else None) or {"done": 0, "total": 0}
    done, total = int(progress["done"]), int(progress["total"])
    since, before = begun.setdefault(standing.record.key, (now, done))
    started = standing.claim.started if standing.claim else time.time()
    words = f", {time.time() - started:.0f} s so far"
    if now > since and done > before:
        words += f", about {(total - done) * (now - since) / (done - before):.0f} s left"
    return words
