"""The index of rows is there when somebody looks, whatever became of who made it, and holds up no collection."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.runs import wait_until
from tests.web import rows

from holdfast.rollouts import columns_file, columns_keep
from holdfast.rollouts.columns_follow import Follower

GAMES = rows.lines(rows.game(prompt, repeat) for prompt in range(40) for repeat in range(16))


def write_parts(directory: Path, times: int = 1) -> Path:
    parts = directory / "c0ffee" / "parts"
    parts.mkdir(parents=True)
    for number in range(times):
        (parts / f"{number:03d}-aa.jsonl").write_bytes(GAMES)
    return parts


def found(parts: Path) -> Follower:
    """What a viewer has before it reads a single row."""
    return Follower(columns_keep.source_of_parts("", parts))


def children() -> set[int]:
    """Processes that keep an index for this one."""
    tasks = Path("/proc/self/task")
    listed = " ".join((task / "children").read_text() for task in tasks.iterdir())
    return {int(pid) for pid in listed.split() if is_keeper(int(pid))}


def is_keeper(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return columns_keep.__name__.encode() in words


def test_after_a_collection_nothing_is_left_to_read(tmp_path: Path) -> None:
    assert len(GAMES) > columns_keep.FEW
    parts = write_parts(tmp_path)
    with columns_keep.keeping(parts):
        (parts / "001-bb.jsonl").write_bytes(GAMES)
    index = found(parts)
    assert index.columns.count == 1280 and not index.notice
    assert not index.refresh() and not children()


def test_while_rows_arrive_the_index_follows(tmp_path: Path) -> None:
    parts = write_parts(tmp_path)
    with columns_keep.keeping(parts):
        wait_until(lambda: found(parts).columns.count == 640)
        (parts / "001-bb.jsonl").write_bytes(GAMES)
        wait_until(lambda: found(parts).columns.count == 1280)


@pytest.mark.parametrize("harm", [b"", b"holdfast columns 1\n", None])
def test_a_torn_index_is_made_again_by_the_collector(tmp_path: Path, harm: bytes | None) -> None:
    parts = write_parts(tmp_path)
    with columns_keep.keeping(parts):
        pass
    kept = parts.parent / "columns"
    kept.write_bytes(kept.read_bytes()[:-1000] if harm is None else harm)
    with pytest.raises(columns_file.NoColumns):
        columns_file.load(kept)
    with columns_keep.keeping(parts):
        pass
    assert found(parts).columns.count == 640


def test_a_collection_ends_as_it_would_when_its_index_cannot_be_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = write_parts(tmp_path)
    (parts.parent / "columns").mkdir()
    with columns_keep.keeping(parts):
        pass
    assert "the index of rows is not kept" in capfd.readouterr().err
    assert found(parts).columns.count == 0 and not children()


@pytest.mark.parametrize(("number", "patience", "kept"), [(signal.SIGKILL, 60.0, 25600), (signal.SIGSTOP, 3.0, 0)])
def test_a_collection_ends_as_it_would_when_whoever_reads_it_dies_or_hangs(
    tmp_path: Path, number: signal.Signals, patience: float, kept: int
) -> None:
    parts = write_parts(tmp_path, times=40)
    with columns_keep.keeping(parts, patience):
        (child,) = wait_until(children)
        os.kill(child, number)
    assert not children()
    assert found(parts).columns.count == kept
