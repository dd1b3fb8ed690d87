"""A whole run on a real `transformers serve`: a model that was taught here plays, the collector is killed, the same
command goes on, and at the end there are exactly N of each prompt, a report, and pages.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.rollouts.player import TURNS, puzzle, write_player
from tests.runs import claims, processes_of, start, status, wait_until
from tests.web import looking
from tests.web.viewer import viewing

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.train, pytest.mark.slow]
PROMPTS, REPEATS = (200, 16) if os.environ.get("HOLDFAST_SOAK") else (12, 8)
WANTED = PROMPTS * REPEATS
NAME = "player"


def write_config(directory: Path) -> Path:
    """A config of puzzles that the model has not seen, played by text tags."""
    rows = [puzzle(20_000 + number) for number in range(PROMPTS)]
    (directory / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "name": NAME,
        "model": str(write_player(directory / "player")),
        "prompts": "prompts.jsonl",
        "repeats": REPEATS,
        "environment": {"name": "tetris", "settings": {"interface": "text"}},
        "rollout": {"turns": TURNS},
        "sampling": {"temperature": 1.0, "max_tokens": 16},
        "engine": {"name": "transformers"},
        "collection": {"in_flight": 4},
    }
    path = directory / "player.yaml"
    path.write_text(json.dumps(content))
    return path


def recorded(root: Path) -> list[dict[str, Any]]:
    """Rows of the collection, by whole lines."""
    parts = sorted(root.glob(".holdfast/collections/*/parts/*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().split("\n")[:-1]]


def collectors(root: Path) -> list[int]:
    return [pid for pid, line in processes_of(root).items() if "holdfast.stages" in line and "run" in line]


def interrupt(root: Path, config: Path) -> int:
    """Begin, and kill -9 the collector as soon as there are some rows; returns how many there are then."""
    command = start(root, "rollout", "run", str(config), "--wait", "--once")
    (collector,) = wait_until(lambda: collectors(root), 240)
    wait_until(lambda: len(recorded(root)) >= WANTED // 8, 240)
    os.kill(collector, signal.SIGKILL)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 1, said
    wait_until(lambda: not processes_of(root))
    return len(recorded(root))


@pytest.mark.timeout(0)
def test_a_run_on_a_real_server_that_was_killed_goes_on_to_every_rollout_once(tmp_path: Path, page: Page) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    before = interrupt(root, config)
    assert WANTED // 8 <= before < WANTED
    again = start(root, "rollout", "run", str(config), "--wait", "--once")
    again.communicate(timeout=2400)
    assert again.returncode == 0, status(root, NAME)["reason"]
    assert len(claims(root, NAME)) == 2 and len(recorded(root)) == WANTED
    rows = published(root, before)
    report = (root / "rollouts" / NAME / "reward_analysis.md").read_text()
    assert f"| done | {WANTED:,} | 100.0% |" in report
    assert f"{sum(row['success'] for row in rows):,} of {WANTED:,} rollouts succeed" in report
    page.expected_complaint = "net::ERR"  # type: ignore[attr-defined]
    with viewing(NAME, root=root) as viewer:
        looking.check_list(page, viewer, rows)
        for success in (True, False):
            looking.check_game(page, viewer, rows, [row["success"] for row in rows].index(success))
        looking.check_repeats(page, viewer, rows, place=WANTED // 2)


def published(root: Path, before: int) -> list[dict[str, Any]]:
    """The rows: each once, `before` of them of the first attempt, of a model that really plays."""
    text = (root / "rollouts" / NAME / "rollouts.jsonl").read_text()
    rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    wanted = [
        (str(puzzle(20_000 + number)["game_id"]), repeat) for number in range(PROMPTS) for repeat in range(REPEATS)
    ]
    assert [(row["id"], row["repeat"]) for row in rows] == wanted
    assert Counter(row["attempt"] for row in rows) == {1: before, 2: WANTED - before}
    turns = [turn for row in rows for turn in row["turns"]]
    said = [each["content"] for row in rows for each in row["messages"] if each["role"] == "assistant"]
    assert sum("____" in each for each in said) < len(said) / 10, "an answer does not begin with its prompt"
    moves = [step["action"] for turn in turns for step in turn["info"]["steps"]]
    assert sum(not turn["info"]["steps"] for turn in turns) < len(turns) / 10, "it says moves, not words"
    assert min(Counter(moves)[move] for move in ("Left", "Right", "Down")) > len(moves) / 50
    assert 0.1 < sum(row["success"] for row in rows) / WANTED < 0.95
    return rows
