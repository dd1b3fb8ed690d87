"""Reading along: what is torn waits, what is foreign is passed over, and it does not matter when one looks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.trackers import Row
from holdfast.trackers.lines import Lines, Table

CALL = st.tuples(
    st.integers(0, 9), st.lists(st.sampled_from(["loss", "acc", "kl"]), min_size=1, unique=True), st.integers(1, 3)
)
FOREIGN = st.sampled_from([b"\n", b"{}\n", b"[1]\n", b'{"step": true}\n', b"\xff\xfe\n", b'{"step": 1, "na\n', b"7\n"])


def text_of(calls: list[Any]) -> bytes:
    """A file: calls as our writer writes them, and lines that are not ours in between."""
    parts = []
    for number, call in enumerate(calls):
        if isinstance(call, bytes):
            parts.append(call)
            continue
        step, names, attempt = call
        for name in names:
            row = {"step": step, "name": name, "value": number, "time": 1e9 + number, "attempt": attempt}
            parts.append(json.dumps(row).encode() + b"\n")
    return b"".join(parts)


def cells(rows: list[Row]) -> list[tuple[int, str, float, bool, int]]:
    return [(row.step, name, row.values[name], name in row.first, row.attempt) for row in rows for name in row.values]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(CALL, FOREIGN), max_size=12), st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 30))
def test_reading_while_it_grows_gives_what_reading_at_the_end_gives(calls: Any, cuts: list[int], skip: int) -> None:
    text = text_of(calls)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "metrics.jsonl"
        path.write_bytes(text)
        whole = list(Lines(path).rows())
        growing, found = Lines(path), []
        for cut in [*sorted(cuts), len(text)]:
            path.write_bytes(text[:cut])
            found += list(growing.rows())
        assert cells(found) == cells(whole)
        assert growing.count == text.count(b"\n") and growing.offset == len(text)
        assert found == [] or found[-1].offset <= growing.offset
        later = cells(list(Lines(path, skip).rows()))
        before = len(cells([row for row in whole if row.end <= skip]))
        assert later == cells(whole)[len(cells(whole)) - len(later) :] and len(later) <= len(cells(whole)) - before


def test_values_of_the_last_attempt_stand(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text_of([(1, ["loss"], 1), (2, ["loss", "acc"], 1), (2, ["loss"], 2), (3, ["loss"], 2)]))
    table = Table()
    rows = list(Lines(path).rows())
    for row in rows:
        table.add(row)
    assert table.by_step() == {
        1: {"loss": (0.0, 1e9)},
        2: {"loss": (2.0, 1e9 + 2), "acc": (1.0, 1e9 + 1)},
        3: {"loss": (3.0, 1e9 + 3)},
    }
    assert [row.first for row in rows] == [{"loss"}, {"loss", "acc"}, set(), {"loss"}]


def test_a_line_longer_than_what_is_read_at_once_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 3_000_000 + b"\n" + text_of([(1, ["loss"], 1)]))
    assert [row.step for row in Lines(path).rows()] == [1]
