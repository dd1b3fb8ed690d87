"""Which points a sweep has: each launch leaves a list, and the sweep is all of them together, so that a point keeps its
place also where the same work was done before under another name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holdfast.core import files
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.record import Record
from holdfast.core.store import Store

FOLDERS = ("evals",)
"""Of verbs whose names lie in a folder of their own."""


@dataclass(frozen=True)
class Member:
    """A point of a sweep, and the work that it is."""

    label: str
    point: dict[str, Any]
    record: Record


def remember(store: Store, name: str, points: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
    """Keep the (key, label, point) of a launch; the same list is kept once."""
    listed = [{"key": key, "label": label, "point": point} for key, label, point in points]
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:16]
    path = _folder(store, name) / f"{digest}.json"
    files.make_directories(path.parent)
    files.replace(path, files.encode({"name": name, "points": listed}))


def exists(store: Store, name: str) -> bool:
    return _folder(store, name).is_dir()


def named(store: Store, text: str) -> str | None:
    """The sweep that a person means: `eval_sweep` stands for `evals/eval_sweep`, too, where there is no other."""
    text = text.strip("/")
    return next((name for name in (text, *(f"{folder}/{text}" for folder in FOLDERS)) if exists(store, name)), None)


def names(store: Store) -> list[str]:
    """Every sweep of a root."""
    from urllib.parse import unquote

    folder = store.inside / "sweeps"
    return sorted(unquote(each.name) for each in folder.iterdir()) if folder.is_dir() else []


def members(store: Store, name: str) -> list[Member]:
    """The points of a sweep, in the order in which they were first launched; each work once."""
    found: dict[str, Member] = {}
    lists = sorted(_folder(store, name).glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in lists:
        for entry in files.read(path, "list of points")["points"]:
            member = None if entry["key"] in found else _member(store, entry)
            if member:
                found[entry["key"]] = member
    return list(found.values())


def _member(store: Store, entry: dict[str, Any]) -> Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read(entry["key"]))
    except (FileNotFoundError, DamagedFile, UnreadableFile):
        return None


def _folder(store: Store, name: str) -> Path:
    return store.inside / "sweeps" / (quote(name.strip("/"), safe="") or "-")
