"""Values as override text that a program reads back as the very value, be its reader OmegaConf's or Hydra's."""

from __future__ import annotations

import json
import re
from typing import Any

from holdfast.core import config
from holdfast.sweeps.labels import spell

BARE = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.+%@-]*")
"""What both grammars take without quotes."""
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


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
    if not config.LINE_BREAK.search(value):
        candidates += _quoted(value)
    return next((text for text in candidates if config.value_of(text) == value), value)


def _quoted(value: str) -> list[str]:
    single = [f"'{value}'"] if "'" not in value and "\\" not in value else []
    double = [f'"{value}"'] if '"' not in value and "\\" not in value else []
    return [*single, *double, _escaped(value)]


def _escaped(value: str) -> str:
    """In double quotes, as JSON and YAML both read it: YAML takes no surrogates, and some characters only escaped."""
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def _inner(value: Any) -> str:
    """Inside a list or a mapping every string is quoted: a comma would end it."""
    if isinstance(value, str):
        return _escaped(value) if UNPRINTABLE.search(value) or config.LINE_BREAK.search(value) else _quoted(value)[0]
    return override_text(value)
