"""An evaluation over several nodes has an engine on each, and every one of them is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.runs import hold
from tests.slurm.cluster import Cluster
from tests.tiny import write_tiny

pytestmark = pytest.mark.train
ASKS = ("evaluate", "generation.model_name=model", "data.dataset_name=arithmetic", "data.count=64", "--engine", "fake")
WHERE = ("--executor", "slurm", "--container", "none", "--account", "team", "--partition", "batch", "--gpus", "0")


def test_every_node_has_an_engine_and_all_are_asked(tmp_path: Path, cluster: Cluster) -> None:
    write_tiny(tmp_path / "model")
    root = tmp_path / "root"
    more: tuple[str, ...] = ("eval.num_tests_per_prompt=4", "generation.temperature=1.0")
    more += (f'generation.engine_arguments=[--log, "{tmp_path}/asked-{{port}}"]',)
    hold(root, *ASKS, *WHERE, *more, "--nodes", "2", "--wait", env=cluster.environment, code=0)
    asked = [len(path.read_text().splitlines()) for path in tmp_path.glob("asked-*")]
    assert len(asked) == 2 and sum(asked) >= 256 and min(asked) > 256 / 4
    (attempt,) = root.glob(".holdfast/stages/*/attempts/001")
    logs = sorted(path.name for path in attempt.glob("service-engine*.log"))
    assert logs == ["service-engine-1.log", "service-engine.log"]
    metrics = json.loads((root / "evals" / "eval" / "metrics.json").read_text())
    assert metrics["coverage"]["done"] == metrics["coverage"]["expected"] == 256
    rows = [json.loads(line) for line in (root / "evals" / "eval" / "rows.jsonl").read_text().splitlines()]
    assert len({(row["id"], row["repeat"]) for row in rows}) == 256
