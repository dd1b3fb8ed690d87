"""What a person means by the name of a collection or by a path, as files of rows.

A file of rows, with the failures that lie beside it; a directory that holds such files, or the parts of a collection;
or a stage of the root: what it published, and before that the rows that its attempts have written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import artifact, files
from holdfast.core.errors import UserError
from holdfast.rollouts.columns_follow import Source
from holdfast.rollouts.columns_keep import KEPT, kept_in_root, source_of_parts
from holdfast.web.rollouts import Shown

if TYPE_CHECKING:
    from holdfast.core.record import Record
    from holdfast.core.store import Store

PUBLISHED = ("rollouts.jsonl", "rows.jsonl")
FAILURES = "failures.jsonl"
NOT_ROWS = ("_materialized_inputs.jsonl", "_failures.jsonl", "_reward_profiling.jsonl")
"""What NeMo Gym writes beside its rollouts."""
MOST_KEPT = 32
"""Indexes of files elsewhere that stay in the user's cache."""


def find(text: str, store: Store) -> Shown:
    """What to show.

    Raises:
        UserError: there is no such file, directory or stage, or it has no rows.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return Shown(_of_file(path.absolute(), store))
    if path.is_dir():
        return Shown(_of_directory(path.absolute(), store))
    if "/" in text and path.suffix:
        raise UserError(f"there is no file at {text}", "name a file of rows, or a stage: holdfast status")
    return _of_stage(store.find(text), store)


def _of_file(path: Path, store: Store) -> Source:
    beside = [path.with_name(f"{path.stem}_failures{path.suffix}")]
    beside += [path.with_name(FAILURES)] if path.name in PUBLISHED else []
    name = f"{path.parent.name}/{path.name}"
    return Source(name, (path, *beside), kept=_kept(path, store))


def _of_directory(path: Path, store: Store) -> Source:
    for name in PUBLISHED:
        if (path / name).is_file():
            return _of_file(path / name, store)
    if (path / "parts").is_dir():
        path = path / "parts"
    rows = sorted(each for each in path.glob("*.jsonl") if not each.name.endswith(NOT_ROWS))
    if not rows:
        raise UserError(f"no rows in {path}: no file ends in .jsonl", "name the file, or the directory that holds it")
    if path.name == "parts":
        return source_of_parts(path.parent.name[:12], path)
    return Source(path.name, tuple(rows), kept=_kept(path, store))


def _of_stage(record: Record, store: Store) -> Shown:
    home = store.home(record)
    environment = str(record.stage.params.get("environment", ""))
    if artifact.holds(home, record.key):
        for name in PUBLISHED:
            if (home / name).is_file():
                beside = tuple(path for path in (home / FAILURES,) if path.is_file())
                return Shown(Source(record.name, (home / name, *beside), kept=_kept(home / name, store)), environment)
        raise UserError(
            f"`{record.name}` is of kind {record.stage.kind}, and has none of {', '.join(PUBLISHED)}",
            "name a stage of kind rollouts or evaluate: holdfast status",
        )
    parts = _parts_of(record, store)
    if parts is None:
        raise UserError(f"`{record.name}` has no rows yet", f"holdfast status {record.name}")
    return Shown(source_of_parts(record.name, parts), environment)


def _parts_of(record: Record, store: Store) -> Path | None:
    """The collection that a stage's attempts wrote to, or those of its slices: each names its part by its token."""
    for key in [record.key, *(str(each["key"]) for each in record.placement.get("after", ()))]:
        for token in _tokens_of(store.attempts(key)):
            for part in store.collections.glob(f"*/parts/*-{token}*.jsonl"):
                return part.parent
    return None


def _tokens_of(attempts: Path) -> list[str]:
    """The tokens of a stage's attempts, the newest first."""
    found = [files.read_or_none(path, "attempt") or {} for path in sorted(attempts.glob("*.json"), reverse=True)]
    return [token for each in found if (token := str(each.get("token", ""))).isalnum()]


def _kept(path: Path, store: Store) -> Path:
    """Where the index of files is kept: in their root where they are of one, otherwise in the user's cache."""
    in_root = kept_in_root(path, store.root)
    if path.is_relative_to(store.root) and os.access(store.inside, os.W_OK):
        return in_root
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast" / KEPT
    _make_room(cache)
    return cache / in_root.name


def _make_room(cache: Path) -> None:
    """Let the indexes go that were not used for longest: they can be made again."""
    try:
        found = sorted((path for path in cache.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)
        for path in found[: -MOST_KEPT + 1 or None] if len(found) >= MOST_KEPT else []:
            path.unlink(missing_ok=True)
    except OSError:
        return
