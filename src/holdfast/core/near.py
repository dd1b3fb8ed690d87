"""What is there under the nearest name: people mistype, and a hint that names the right thing saves a search."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

YAML = (".yaml", ".yml")
MOST = 8


def name(text: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The known name that is nearest to `text`, if any is near."""
    found = difflib.get_close_matches(text, known, 1, cutoff)
    return found[0] if found else None


def path(wanted: Path) -> Path | None:
    """`wanted` with the first part of it that is not there replaced by what lies there under the nearest name."""
    missing, rest = wanted, Path()
    while missing.parent != missing and not missing.parent.exists():
        missing, rest = missing.parent, missing.name / rest
    found = name(missing.name, _entries(missing.parent))
    return missing.with_name(found) / rest if found else None


def yaml_hint(wanted: Path) -> str:
    """For a YAML file that is not there: the nearest one beside it, or those that are."""
    there = sorted(each for each in _entries(wanted.parent) if each.endswith(YAML))
    stems = {Path(each).stem: each for each in there}
    if found := name(wanted.stem, stems):
        return f"did you mean `{wanted.with_name(stems[found])}`?"
    if not wanted.parent.is_dir():
        return f"there is no directory {wanted.parent}"
    return f"YAML files in {wanted.parent.absolute()}: {listed(there)}"


def listed(names: Iterable[str]) -> str:
    """Names as a hint shows them: the first few, `none` where there are none."""
    found = list(names)
    more = f", and {len(found) - MOST} more" if len(found) > MOST else ""
    return (", ".join(found[:MOST]) or "none") + more


def _entries(directory: Path) -> list[str]:
    try:
        return [each for each in os.listdir(directory) if not each.startswith(".")]
    except OSError:
        return []
