"""All rows of one (environment and version, model, sampling, template), shared by every stage that needs some of them.

Each attempt appends to a part of its own, `parts/<attempt>-<token>.jsonl`, and readers take the union. Repeats and
the list of prompts are not part of a collection's identity, so that more of either owes only the difference. A torn
last line, of a writer that was killed, is owed again; nobody ever writes behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core import files
from holdfast.core.stage import canonical

SCHEMA = 1
Row = dict[str, Any]
"""`prompt, response, reward, success, num_steps, schema, id, repeat, seed, usage, timing, attempt`; a failure has
`error` instead of a reward, and stays owed."""


class Sample(NamedTuple):
    """One response that is wanted: the `repeat`-th (from 0) to the prompt `id`."""

    id: str
    repeat: int


def row_key(*, environment: str, version: int, model: str, sampling: Mapping[str, Any], template: str) -> str:
    """Names a collection; `model` is the digest of the model's contents."""
    identity = {
        "environment": environment,
        "version": version,
        "model": model,
        "sampling": dict(sampling),
        "template": template,
    }
    return hashlib.sha256(canonical(identity)).hexdigest()


class Collection:
    """The parts in one directory, and the part that this attempt writes."""

    def __init__(self, parts: Path, attempt: int, token: str) -> None:
        self.parts = parts
        self._own = parts / f"{attempt:03d}-{token}.jsonl"
        self._fd: int | None = None
        self._synced = time.monotonic()

    def rows(self) -> dict[Sample, Row]:
        """Every response that was recorded, failures excepted. Where two attempts recorded the same, the first one
        counts.
        """
        found: dict[Sample, Row] = {}
        for row in sorted(self._whole_rows(), key=lambda row: row["timing"]["finished"]):
            if "error" not in row:
                found.setdefault(Sample(row["id"], row["repeat"]), row)
        return found

    def _whole_rows(self) -> Iterable[Row]:
        for part in sorted(self.parts.glob("*.jsonl")):
            with open(part, "rb") as lines:
                for line in lines:
                    row = _parse(line)
                    if row is not None:
                        yield row

    def owed(self, ids: Sequence[str], repeats: int) -> list[Sample]:
        """What of `repeats` responses to each prompt is not recorded, repeat by repeat, so that all prompts are begun
        early.
        """
        there = self.rows()
        wanted = (Sample(each, repeat) for repeat in range(repeats) for each in ids)
        return [sample for sample in wanted if sample not in there]

    def append(self, row: Row, sync_every: float = 1.0) -> None:
        """Record a row. It is written at once, so it survives the process, and synced once a second, so it survives
        the host.
        """
        if self._fd is None:
            self._fd = os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            files.fsync_path(self.parts)
        files.write_all(self._fd, json.dumps({"schema": SCHEMA, **row}, ensure_ascii=False).encode() + b"\n")
        if time.monotonic() - self._synced >= sync_every:
            self._sync()

    def _sync(self) -> None:
        if self._fd is not None:
            os.fsync(self._fd)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close this attempt's part."""
        if self._fd is not None:
            self._sync()
            os.close(self._fd)
            self._fd = None


def _parse(line: bytes) -> Row | None:
    """A row, or None for a torn or foreign line and for one that a later version wrote."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or row.get("schema") != SCHEMA or not {"id", "repeat", "timing"} <= row.keys():
        return None
    return row if "finished" in row["timing"] and ("reward" in row or "error" in row) else None
