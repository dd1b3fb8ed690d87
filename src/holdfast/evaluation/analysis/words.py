"""How the report spells numbers, and text that others wrote."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

ROUNDING = 1e-14
"""What is left of differences of equal numbers."""
LONGEST = 60
SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
"""Characters that move the cursor, end the line, turn the direction of text, or are not seen; lone surrogates, too."""


def plain(text: object, longest: int = LONGEST) -> str:
    """Text of others on one line, all of it visible, not too long."""
    shown = str(text)
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return UNSEEN.sub(lambda match: f"\\x{ord(match[0]):02x}", shown)


def cell(text: object) -> str:
    """Text of others in Markdown: never a tag, a link, or the end of a table's cell."""
    return _escape(plain(text)) or "(empty)"


def paragraph(words: str) -> str:
    """A paragraph that stays one, whatever it begins with."""
    escaped = _escape(words)
    return escaped if escaped[:1].isalnum() else "\\" + escaped


def _escape(text: str) -> str:
    return SPECIAL.sub(lambda match: "\\" + match[0], html.escape(text, quote=False))


def number(value: float | None, sign: str = "") -> str:
    """Three decimals, fewer of large numbers, a power of ten of those that nobody could read otherwise."""
    if value is None:
        return ""
    value = 0.0 if abs(value) < ROUNDING else value
    size = abs(value)
    if size and (size < 0.0005 or size >= 1e9):
        return f"{value:{sign}.3g}"
    return f"{value:{sign}.3f}" if size < 1000 else f"{value:{sign},.1f}"


def count(value: float | None) -> str:
    """A whole number with separators; other numbers as `number` has them."""
    if value is None:
        return ""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else number(value)


def exact(value: float) -> str:
    """A reward as it was given."""
    return f"{value:.10g}"


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def between(found: Mapping[str, Any] | None) -> str:
    """`0.380 to 0.444`; empty where the interval is not known, or has no width because nothing varied."""
    ends = _ends(found)
    return f"{number(ends[0])} to {number(ends[1])}" if ends else ""


def percent_between(found: Mapping[str, Any] | None) -> str:
    """As `between`, in percent."""
    ends = _ends(found)
    return f"{percent(ends[0])} to {percent(ends[1])}" if ends else ""


def _ends(found: Mapping[str, Any] | None) -> tuple[float, float] | None:
    low, high = (found.get("low"), found.get("high")) if found else (None, None)
    return None if low is None or high is None or low == high else (low, high)


def several(amount: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
