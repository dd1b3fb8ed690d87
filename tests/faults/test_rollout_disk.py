"""A disk that fills while rollouts are collected: what was acknowledged stays, and the same command goes on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.runs import hold, processes_of, start, status, wait_until

pytestmark = pytest.mark.slow


def write_config(directory: Path, log: Path) -> Path:
    content = {
        "name": "sums",
        "model": "fake",
        "repeats": 3,
        "environment": {"name": "arithmetic", "settings": {"count": 20}},
        "engine": {"name": "fake", "arguments": ["--log", str(log), "--latency", "0.2"]},
        "collection": {"in_flight": 8, "patience": 2.0},
    }
    (directory / "sums.yaml").write_text(json.dumps(content))
    return directory / "sums.yaml"


def fill(path: Path) -> None:
    """Take all that is left of its disk."""
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


@pytest.mark.parametrize("flags", [("--once",), ()], ids=["once", "again"])
def test_collection_on_a_full_disk_is_owed_because_of_it_and_goes_on_when_there_is_room(
    flags: tuple[str, ...], small_disk: Path, tmp_path: Path
) -> None:
    root, log = small_disk / "root", tmp_path / "asked.jsonl"
    command = ("rollout", "run", str(write_config(tmp_path, log)), *flags, "--wait")
    first = start(root, *command)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 16)
    fill(small_disk / "filler")
    _, said = first.communicate(timeout=120)
    assert first.returncode in (1, 3), said
    wait_until(lambda: not processes_of(root))
    assert "no space is left on the disk" in hold(root, "why", "sums", code=None).stdout
    assert status(root, "sums")["state"] == "owed"
    kept = json.loads(hold(root, "rollout", "owed", "sums", "--json").stdout)["done"]
    assert kept >= 8
    (small_disk / "filler").unlink()
    hold(root, *command, code=0)
    rows = [json.loads(line) for line in (root / "rollouts" / "sums" / "rollouts.jsonl").read_text().splitlines()]
    assert Counter(row["id"] for row in rows) == {row["id"]: 3 for row in rows} and len(rows) == 60
    assert len(log.read_text().splitlines()) <= 2 * 60 - kept
