"""Shows work as it goes on: a live table on a terminal, a plain line per change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from holdfast.cli import table
from holdfast.core.plan import IN_FLIGHT, Plan, Standing, standings
from holdfast.core.store import Store

INTERVAL = 2.0


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
    shown: dict[str, str] = {}
    while True:
        found = look()
        for standing in found:
            line = f"{standing.record.name}: {standing.state} {standing.reason}".rstrip()
            if shown.get(standing.record.key) != line:
                shown[standing.record.key] = line
                print(line, file=sys.stderr, flush=True)
        if not any(standing.state in IN_FLIGHT for standing in found):
            return
        time.sleep(interval)
