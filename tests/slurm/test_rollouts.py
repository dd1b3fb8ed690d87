"""Rollouts in slices on a real SLURM: an array with an engine in each task, and one task that publishes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.runs import hold, status
from tests.slurm.cluster import Cluster

FLAGS = ("--executor", "slurm", "--container", "none", "--account", "team", "--slices", "3", "--wait")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_slices_whose_engines_die_end_with_every_rollout_once(cluster: Cluster, tmp_path: Path) -> None:
    arguments = ["--accuracy", "0.5", "--latency", "0.02", "--dies-after", "20"]
    config = {
        "model": "fake",
        "repeats": 3,
        "environment": {"name": "arithmetic", "settings": {"count": 30}},
        "engine": {"name": "fake", "arguments": arguments},
        "collection": {"in_flight": 4, "patience": 2.0},
    }
    root, path = tmp_path / "root", tmp_path / "sums.yaml"
    path.write_text(json.dumps(config))
    hold(root, "rollout", "run", str(path), *FLAGS, code=0, env=cluster.environment)
    rows = [json.loads(line) for line in (root / "rollouts" / "sums" / "rollouts.jsonl").read_text().splitlines()]
    counts = Counter(row["id"] for row in rows)
    assert len(rows) == len({(row["id"], row["repeat"]) for row in rows}) == 90 and set(counts.values()) == {3}
    attempts = {number: status(root, f"sums_slices/{number}of3")["attempt"] for number in range(3)}
    assert all(count >= 2 for count in attempts.values()), attempts
    parts = list(root.glob(".holdfast/collections/*/parts/*.jsonl"))
    assert len({part.parent for part in parts}) == 1 and len(parts) >= 6
    (job,) = root.glob(".holdfast/jobs/*")
    assert "--array=0-2" in (job / "script").read_text()
