"""The published evaluation is of these puzzles; others would be another evaluation."""

from __future__ import annotations

import json
from pathlib import Path

from holdfast.environments.episodes import load_episodes
from holdfast.environments.prompt_set import PromptSet
from holdfast.environments.tetris.puzzles import BOX_TYPES, SIZES, generate

SHIPPED = Path(__file__).parents[3] / "examples" / "grl_tetris" / "test_examples_200.jsonl"
PUBLISHED = [
    (1, 93810, [5, 5], 0),
    (2, 46185, [4, 6], 1),
    (3, 28563, [5, 5], 0),
    (4, 87808, [6, 5], 0),
    (5, 14453, [5, 5], 1),
    (6, 41180, [5, 4], 0),
    (7, 84385, [4, 6], 3),
    (8, 39852, [4, 5], 2),
    (9, 11947, [6, 6], 3),
    (10, 55830, [6, 4], 1),
]
"""The first lines of NeMo Gym's resources_servers/grl_tetris/data/qwen3_4b_eval/test_examples_200.jsonl."""


def test_the_puzzles_are_the_published_ones() -> None:
    rows = generate()
    assert len(rows) == 200
    assert [(row["game_id"], row["seed"], row["dim_board"], row["box_type"]) for row in rows[:10]] == PUBLISHED
    assert {tuple(row["dim_board"]) for row in rows} == set(SIZES)
    assert {row["box_type"] for row in rows} == set(BOX_TYPES)


def test_the_shipped_file_is_what_the_generator_makes() -> None:
    assert [json.loads(line) for line in SHIPPED.read_text().splitlines()] == generate()


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    assert generate(20) == generate(200)[:20]


def test_every_shipped_puzzle_can_be_played_by_both_interfaces() -> None:
    prompts = PromptSet(SHIPPED)
    assert prompts.ids == [str(number) for number in range(1, 201)]
    for interface in ("tools", "text"):
        episodes = load_episodes("tetris", {"interface": interface})
        for name in prompts.ids:
            row = prompts.row(name)
            start = episodes.new().start(0, row)
            board = start.info["board"].split("\n")  # type: ignore[union-attr]
            assert (len(board[0]), len(board)) == tuple(row["dim_board"])
    prompts.close()
