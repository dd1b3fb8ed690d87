"""Shows work as it goes on: a live table on a terminal, a plain line per change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from holdfast.cli import table
from holdfast.core.plan import IN_FLIGHT, Plan, Standing, State, standings
from holdfast.core.store import Store

INTERVAL = 2.0
PULSE = 10.0
"""Seconds after which a line says once more how far it is, where the output is no terminal."""


def watch(look: Callable[[], Sequence[Standing]], interval: float = INTERVAL) -> None:
    """Show standings on stderr until nothing is in flight."""
    if sys.stderr.isatty():
        _watch_live(look, interval)
    else:
        _watch_plain(look, interval)


def wait_for(plan: Plan, store: Store, interval: float = 0.5) -> None:
    """Wait until nothing of a plan is in flight."""
    watch(lambda: standings(plan, store), interval)


def watch_closely(look: Callable[[], Sequence[Standing]]) -> None:
    """As `watch`, for work of seconds."""
    watch(look, interval=0.3)


def _watch_live(look: Callable[[], Sequence[Standing]], interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            found = look()
            text = "\n".join(table.lines([_with_words(each) for each in found], coloured=True))
            live.update(Text.from_ansi(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            if not any(standing.state in IN_FLIGHT for standing in found):
                return
            time.sleep(interval)


def _with_words(standing: Standing) -> Standing:
    return replace(standing, reason=" ".join(filter(None, [standing.reason, how_far(standing)])))


def _watch_plain(look: Callable[[], Sequence[Standing]], interval: float) -> None:
    shown: dict[str, str] = {}
    said: dict[str, float] = {}
    while True:
        found = look()
        for standing in found:
            key, now = standing.record.key, time.monotonic()
            line = f"{standing.record.name}: {standing.state} {standing.reason}".rstrip()
            moves = standing.state is State.RUNNING and now - said.get(key, now) >= PULSE
            if shown.get(key) != line or moves:
                shown[key], said[key] = line, now
                print(f"{line} {how_far(standing)}".rstrip(), file=sys.stderr, flush=True)
        if not any(standing.state in IN_FLIGHT for standing in found):
            return
        time.sleep(interval)


def how_far(standing: Standing) -> str:
    """`(ann, for 12 s, 3.1 of 13.1 GB)`: whose work it is, how long it runs and how far it is."""
    if standing.state is not State.RUNNING or standing.claim is None or not standing.claim.started:
        return ""
    claim = standing.claim
    parts = [claim.owner.user, f"for {max(0.0, time.time() - claim.started):.0f} s"]
    progress = claim.progress()
    if progress and progress["unit"] == "byte":
        parts.append(f"{_size(progress['done'])} of {_size(progress['total'])}")
    elif progress:
        of = "" if progress.get("open") else f" of {progress['total']}"
        parts.append(f"{progress['unit']} {progress['done']}{of}")
    return f"({', '.join(parts)})"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
