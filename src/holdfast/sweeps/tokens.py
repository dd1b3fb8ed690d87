"""Values as override text that a program reads back as the very value, be its reader OmegaConf's or Hydra's."""

from __future__ import annotations

import json
import re
from typing import Any

from holdfast.core import config
from holdfast.sweeps.labels import spell

BARE = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.+%@-]*")
"""What both grammars take without quotes."""


def override_text(value: Any) -> str:
    """The text behind `key=`."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_inner, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inner(key)}: {_inner(each)}" for key, each in value.items()) + "}"
    return "null" if value is None else spell(value)


def _text(value: str) -> str:
    candidates = [value] if BARE.fullmatch(value) else []
    if "\n" not in value:
        candidates += _quoted(value)
    return next((text for text in candidates if config.value_of(text) == value), value)


def _quoted(value: str) -> list[str]:
    single = [f"'{value}'"] if "'" not in value and "\\" not in value else []
    double = [f'"{value}"'] if '"' not in value and "\\" not in value else []
    return [*single, *double, json.dumps(value, ensure_ascii=False)]


def _inner(value: Any) -> str:
    """Inside a list or a mapping every string is quoted: a comma would end it."""
    if isinstance(value, str):
        return _quoted(value)[0] if "\n" not in value else json.dumps(value)
    return override_text(value)
