"""What a person should know before anything runs: on stderr, beside the data."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def notes(said: Iterable[str], same: Iterable[tuple[str, str]] = ()) -> None:
    """A line each; `same` names points of a sweep that are the same work as an earlier one."""
    for note in said:
        print(f"note: {note}", file=sys.stderr)
    for label, kept in same:
        print(f"note: {label} is the same work as {kept}: it runs once", file=sys.stderr)
