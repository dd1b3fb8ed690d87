"""A disk that fills while rollouts are collected: what was acknowledged stays, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.runs import hold, processes_of, start, status, wait_until
from tests.stages.test_rollouts import asked, check_whole, rows_of, write_config

pytestmark = pytest.mark.slow


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
    root, config = small_disk / "root", write_config(tmp_path, arguments=("--latency", "0.2"))
    command = ("rollout", "run", str(config), *flags, "--wait")
    first = start(root, *command)
    wait_until(lambda: asked(tmp_path) > 16)
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
    check_whole(rows_of(root))
    assert asked(tmp_path) <= 2 * 60 - kept
