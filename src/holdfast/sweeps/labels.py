"""Names of points, from their swept values: `lr-1e-6+kl_penalty-0.02`.

They travel in overrides and are directories, so they hold no `=`, `,`, space or `/`; editing the sweep renames nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

LONGEST = 120


def label(point: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The name of a point by the values of `keys`, at most 120 bytes."""
    short = short_keys(keys)
    text = "+".join(f"{_escape(short[key])}-{_escape(spell(point[key]))}" for key in keys)
    if len(text.encode()) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """For each key its shortest dotted end that no other key has."""
    return {
        key: next(end for end in _ends(key) if not any(_has_end(other, end) for other in keys if other != key))
        for key in keys
    }


def _ends(key: str) -> list[str]:
    parts = key.split(".")
    return [*(".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)), f".{key}"]


def _has_end(key: str, end: str) -> bool:
    return key == end or key.endswith(f".{end}")


def spell(value: Any) -> str:
    """A value as people write it: `1e-6`, `true`, `none`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", repr(value))
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _escape(text: str) -> str:
    """What may not be in a name as %XX; `+` too, which stands between two values."""
    return quote(text, safe="@")
