"""The document's whole run, 200 puzzles 16 times each, on the fake: interrupted three times, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.runs import REPOSITORY, hold, processes_of, start, wait_until

from holdfast.pipelines.rollouts import settings

CONFIG = REPOSITORY / "examples" / "grl_tetris" / "config.yaml"
FAKE = ("--engine", "fake", "model=fake", 'engine.arguments=[--accuracy,"0.4"]', "collection.in_flight=64")
WANTED = 200 * 16


def test_the_config_has_the_values_of_the_document() -> None:
    found = settings.settle(CONFIG, []).config
    assert (found.model, found.repeats) == ("Qwen/Qwen3-4B", 16)
    drawn = found.sampling
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens) == (0.6, 0.95, 4096)
    engine = found.engine
    assert (engine.name, engine.port, engine.tensor_parallel) == ("vllm", 10240, 1)
    assert (engine.gpu_memory_utilization, engine.max_model_len) == (0.85, 32768)
    assert (engine.tool_call_parser, engine.ready_within, found.collection.in_flight) == ("hermes", 600, 16)


def done(root: Path) -> int:
    """Rows that are there, counted as whole lines."""
    return sum(part.read_bytes().count(b"\n") for part in root.glob(".holdfast/collections/*/parts/*.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_whole_run_interrupted_three_times_ends_with_every_rollout_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = start(root, "rollout", "run", str(CONFIG), *FAKE, "--wait")
    wait_until(lambda: done(root) > 300 or command.poll() is not None, 120)
    # The engine dies, the collector dies, then everything that works for it: as a node that is lost.
    for share, victims in ((300, "engines.fake"), (1000, "holdfast.stages")):
        wait_until(lambda share=share: done(root) > share or command.poll() is not None, 120)  # type: ignore[misc]
        for pid, line in processes_of(root).items():
            if any(victims in token for token in line) and not any("supervisor.pyz" in token for token in line):
                os.kill(pid, signal.SIGKILL)
    wait_until(lambda: done(root) > 1800 or command.poll() is not None, 120)
    command.kill()
    command.communicate()
    while found := processes_of(root):
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert 1800 < done(root) < WANTED
    hold(root, "rollout", "run", str(CONFIG), *FAKE, "--wait", code=0)
    home = root / "rollouts" / "qwen3_4b_eval"
    rows = [json.loads(line) for line in (home / "rollouts.jsonl").read_text().splitlines()]
    assert Counter(Counter(row["id"] for row in rows).values()) == {16: 200}
    assert len({(row["id"], row["repeat"]) for row in rows}) == WANTED
    assert all({"game_id", "seed", "dim_board", "box_type"} <= row["prompt"].keys() for row in rows)
    assert any(row["success"] for row in rows) and all(isinstance(row["reward"], float) for row in rows)
    assert {"engine.log", "rollout_collection.log"} <= {log.name for log in (home / "logs").iterdir()}
    assert "3,200 of 3,200" in hold(root, "rollout", "run", str(CONFIG), *FAKE, "--wait", code=0).stdout
