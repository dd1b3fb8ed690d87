"""The document's whole run, 200 puzzles 16 times each, on the fake: interrupted three times, nothing lost; and what one
has of it at the end, the report and the pages.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.runs import REPOSITORY, claims, hold, processes_of, start, wait_until
from tests.web import looking
from tests.web.browser import open_page
from tests.web.viewer import viewing

from holdfast.core.store import Store
from holdfast.pipelines.rollouts import settings
from holdfast.rollouts.columns_follow import Follower
from holdfast.web import find

if TYPE_CHECKING:
    from playwright.sync_api import Page

CONFIG = REPOSITORY / "examples" / "grl_tetris" / "config.yaml"
NAME = "qwen3_4b_eval"
FAKE = ("--engine", "fake", "model=fake", 'engine.arguments=[--accuracy,"0.4"]', "collection.in_flight=64")
RUN = ("rollout", "run", str(CONFIG), *FAKE, "--wait")
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


def kill(root: Path, program: str) -> None:
    """kill -9 of every process of a program that works for the root."""
    found = [
        pid
        for pid, line in processes_of(root).items()
        if any(program in token for token in line) and not any("supervisor.pyz" in token for token in line)
    ]
    assert found, f"no {program} is running"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def interrupt_three_times(root: Path) -> None:
    """The engine dies, the collector dies, then everything that works for the root, as with a node that is lost."""
    command = start(root, *RUN)
    for share, program in ((300, "engines.fake"), (1000, "holdfast.stages")):
        wait_until(lambda share=share: done(root) > share or command.poll() is not None, 120)  # type: ignore[misc]
        kill(root, program)
    wait_until(lambda: done(root) > 1800 or command.poll() is not None, 120)
    command.kill()
    command.communicate()
    while found := processes_of(root):
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_whole_run_interrupted_three_times_ends_with_every_rollout_once(tmp_path: Path, page: Page) -> None:
    root = tmp_path / "root"
    interrupt_three_times(root)
    assert 1800 < done(root) < WANTED
    page.expected_complaint = "net::ERR"  # type: ignore[attr-defined]
    with viewing(NAME, root=root) as viewer:  # whoever looks before it goes on sees it go on
        open_page(page, viewer)
        hold(root, *RUN, code=0)
        looking.wait_for_counts(page, rewards=WANTED, prompts=200)
    rows = published(root)
    check_report((root / "rollouts" / NAME / "reward_analysis.md").read_text(), rows)
    check_indexes(root)
    with viewing(NAME, "--port", str(viewer.port), root=root) as viewer:
        looking.check_list(page, viewer, rows)
        for success in (True, False):
            place = next(place for place, row in enumerate(rows) if place > 1000 and row["success"] is success)
            looking.check_game(page, viewer, rows, place)
        looking.check_repeats(page, viewer, rows, place=1600)
    assert "3,200 of 3,200" in hold(root, *RUN, code=0).stdout


def published(root: Path) -> list[dict[str, Any]]:
    """The rows: every repeat of every puzzle once, with the fields of the document; and logs of every attempt."""
    home = root / "rollouts" / NAME
    rows: list[dict[str, Any]] = [json.loads(line) for line in (home / "rollouts.jsonl").read_text().splitlines()]
    assert Counter(Counter(row["id"] for row in rows).values()) == {16: 200}
    assert len({(row["id"], row["repeat"]) for row in rows}) == WANTED
    assert all({"game_id", "seed", "dim_board", "box_type"} <= row["prompt"].keys() for row in rows)
    assert any(row["success"] for row in rows) and all(isinstance(row["reward"], float) for row in rows)
    assert {"engine.log", "rollout_collection.log"} <= {log.name for log in (home / "logs").iterdir()}
    said = (home / "logs" / "rollout_collection.log").read_text()
    assert len(claims(root, NAME)) >= 3 and "attempt 3" in said
    return rows


def check_report(text: str, rows: list[dict[str, Any]]) -> None:
    """The report says of the rows what they are."""
    wins, mean = sum(row["success"] for row in rows), sum(row["reward"] for row in rows) / WANTED
    assert "| done | 3,200 | 100.0% |" in text and "| prompts with all rollouts | 200 |" in text
    assert f"{wins:,} of 3,200 rollouts succeed" in text
    assert f"Mean over prompts: {mean:.3f}, 95% interval" in text


def check_indexes(root: Path) -> None:
    """Whoever looks, at what was published or at the collection, has an index of all rows and reads none again."""
    (parts,) = root.glob(".holdfast/collections/*/parts")
    for name in (NAME, str(parts)):
        index = Follower(find.find(name, Store(root)).source)
        assert index.columns.count >= WANTED and not index.notice
        assert not index.refresh() and index.generation == 0
