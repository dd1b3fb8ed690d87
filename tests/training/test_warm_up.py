"""The warm-up is killed at any moment and started again: it must go on, and end with the same model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import one_thread, wait_for

from holdfast.core.artifact import digest_of
from holdfast.training.warm_up import draw_batch

pytestmark = pytest.mark.train
SMALL = ["--steps", "40", "--batch", "16", "--hidden", "32", "--layers", "1", "--save-every", "10", "--seed", "5"]


def start(out: Path, metrics: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "holdfast.training.warm_up", "--out", str(out), *SMALL]
    return subprocess.Popen(command, env={**one_thread(), "HOLDFAST_METRICS": str(metrics)})


def test_a_killed_warm_up_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    assert start(tmp_path / "whole", tmp_path / "whole.jsonl").wait() == 0
    killed = start(tmp_path / "killed", tmp_path / "killed.jsonl")
    wait_for(tmp_path / "killed" / "state.pt")
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert start(tmp_path / "killed", tmp_path / "killed.jsonl").wait() == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "generation_config.json" in names and "state.pt" not in names
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names
    assert digest_of(tmp_path / "killed/model.safetensors") == digest_of(tmp_path / "whole/model.safetensors")
    rows = [json.loads(line) for line in (tmp_path / "killed.jsonl").read_text().splitlines()]
    assert rows[-1]["name"] == "accuracy"
    assert [row["step"] for row in rows].count(10) == 1, "what was saved is not done again"


def test_the_share_of_wrong_labels_is_the_one_asked_for() -> None:
    import random

    drawn = draw_batch(["37+58"], 4000, 0.25, random.Random(0))
    wrong = [solved for solved in drawn if solved != "37+58=95"]
    assert set(wrong) == {"37+58=94", "37+58=96", "37+58=85", "37+58=105"}
    assert 0.22 < len(wrong) / len(drawn) < 0.28
