"""Nested sections as one mapping from dotted names to values.

Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def leaves(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` is `{"a.b": 1}`; a section with nothing in it has none."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
