"""How a game is put to a model and read from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments.episodes import Episode, Start, Step, load_episodes
from holdfast.environments.tetris.puzzles import generate

ROW = {"game_id": 1, "seed": 3, "dim_board": [4, 5], "box_type": 0}


def begin(interface: str, row: dict[str, Any] | None = None, **settings: Any) -> tuple[Episode, Start]:
    episode = load_episodes("tetris", {"interface": interface, **settings}).new()
    start = episode.start(0, row or ROW)
    assert isinstance(start, Start)
    return episode, start


def say(episode: Episode, text: str) -> Step:
    step = episode.step({"role": "assistant", "content": text})
    assert isinstance(step, Step)
    return step


def call(episode: Episode, *arguments: dict[str, Any]) -> tuple[Step, list[dict[str, Any]]]:
    """One message with a call for each; the step, and the tool's results."""
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": "step", "arguments": json.dumps(each)}}
        for number, each in enumerate(arguments)
    ]
    step = episode.step({"role": "assistant", "content": None, "tool_calls": calls})
    assert isinstance(step, Step)
    assert [each["tool_call_id"] for each in step.messages] == [each["id"] for each in calls]
    return step, [json.loads(each["content"]) for each in step.messages]


def test_tags_are_moves_in_their_order_whatever_their_case() -> None:
    episode, start = begin("text")
    assert start.tools == () and start.info["board"] in start.messages[-1]["content"]
    step = say(episode, "I go <action>LEFT</action> and <action> 2 </action>, then <action>down</action>.")
    assert [each["action"] for each in step.info["steps"]] == ["Left", "Down", "Down"]
    assert step.reward == -0.3 and step.actions == 3 and step.info["before"] == start.info["board"]
    assert step.info["steps"][-1]["board"] == step.info["board"] in step.messages[0]["content"]


@pytest.mark.parametrize("text", ["", "Left!", "<action>Up</action>", "<action>Left", "<action>7</action>"])
def test_a_text_without_an_action_costs_a_move_and_goes_on(text: str) -> None:
    episode, start = begin("text")
    step = say(episode, text)
    assert (step.reward, step.actions, step.terminated) == (-0.1, 1, False)
    assert step.info["board"] == start.info["board"] in step.messages[0]["content"]
    assert "no action" in step.messages[0]["content"]


def test_moves_behind_the_end_are_not_made() -> None:
    row = {**ROW, "dim_board": [2, 2]}
    episode, _ = begin("text", row)
    step = say(episode, "<action>Down</action>" * 40)
    assert step.terminated and step.actions < 40
    assert step.reward == pytest.approx(10 * step.info["success"] - 0.1 * step.actions)


def test_the_tool_shows_the_board_for_nothing() -> None:
    episode, start = begin("tools")
    assert [tool["function"]["name"] for tool in start.tools] == ["step"]
    step, (shown,) = call(episode, {"actions": []})
    assert shown["observation"] == start.info["board"] and step.reward == 0 and step.actions == 0


def test_the_tool_moves_and_tells_what_each_move_was_worth() -> None:
    episode, _ = begin("tools")
    step, (shown,) = call(episode, {"actions": ["left", 2, "1"]})
    assert shown["history"] == ["Left", "Down", "Right"] and shown["total_reward"] == shown["reward"] == -0.3
    assert step.reward == -0.3 and step.actions == 3 and not shown["done"]


def test_several_calls_in_one_message_are_carried_out_in_order() -> None:
    episode, _ = begin("tools")
    step, (first, second) = call(episode, {"actions": ["Down"]}, {"actions": ["Down", "Left"]})
    assert second["history"] == ["Down", "Down", "Left"] and second["total_reward"] == -0.3
    assert first["observation"] != second["observation"] and step.reward == -0.3


@pytest.mark.parametrize("arguments", [{}, {"actions": "Left"}, {"actions": ["Rotate"]}, {"actions": [None]}, {"x": 1}])
def test_arguments_that_are_no_moves_are_answered_and_cost_nothing(arguments: dict[str, Any]) -> None:
    episode, _ = begin("tools")
    step, (said,) = call(episode, arguments)
    assert "Left, Right, Down" in said["error"] and step.reward == 0 and not step.terminated


def test_a_number_that_is_no_action_ends_the_game_for_nothing() -> None:
    episode, _ = begin("tools")
    step, (said,) = call(episode, {"actions": ["Down", 9, "Down"]})
    assert step.terminated and step.reward == -0.1 and said["history"] == ["Down", "9"]


def test_a_message_without_a_call_gives_the_game_up() -> None:
    episode, _ = begin("tools")
    call(episode, {"actions": ["Down"]})
    step = say(episode, "I am done.")
    assert step.terminated and step.reward == 0 and step.info["success"] is False and step.info["ended"] == "no_call"


def test_calls_behind_the_end_are_answered_and_not_carried_out() -> None:
    episode, _ = begin("tools", {**ROW, "dim_board": [2, 2]})
    step, told = call(episode, {"actions": ["Down"] * 40}, {"actions": ["Down"]})
    assert step.terminated and "not carried out" in told[1]["error"]


def test_a_row_says_size_pieces_and_seed() -> None:
    first, second = begin("text")[1], begin("text")[1]
    assert first.info == second.info and first.info["board"].count("\n") == 4
    other = begin("text", {**ROW, "seed": 4, "dim_board": [6, 4]})[1]
    assert len(other.info["board"].split("\n")[0]) == 6
    tall = begin("text", {"seed": 3, "dim_x": 5, "dim_y": 6, "box_type": 2})[1]
    assert len(tall.info["board"].split("\n")) == 6


def test_a_row_without_a_seed_is_drawn_from_the_rollouts_own() -> None:
    row = {name: value for name, value in ROW.items() if name != "seed"} | {"dim_board": [16, 4]}
    boards = set()
    for seed in range(20):
        start = load_episodes("tetris", {"interface": "text"}).new().start(seed, row)
        assert isinstance(start, Start)
        boards.add(start.info["board"])
    assert len(boards) > 5


def test_as_published_size_and_pieces_are_not_read() -> None:
    """What the published 5.09 % is of: one setting, whatever the row says."""
    boards = [begin("tools", row, compat=True)[1].info["board"] for row in generate(40)]
    assert {(len(board.split("\n")), len(board.split("\n")[0])) for board in boards} == {(4, 4)}
    single = {**ROW, "box_type": 0}
    square = {**ROW, "box_type": 3, "dim_board": [4, 4]}
    assert begin("tools", single, compat=True)[1].info == begin("tools", square, compat=True)[1].info


def test_as_published_the_counts_of_the_constructor_are_kept() -> None:
    rows = [{"seed": seed, "dim_board": [4, 4], "box_type": 3} for seed in range(50)]
    moves = "<action>Down</action>" * 30
    ours = [say(begin("text", row)[0], moves).info for row in rows]
    published = [say(begin("text", row, compat=True)[0], moves).info for row in rows]
    assert ours != published
    assert published == [say(begin("text", row, compat=True)[0], moves).info for row in rows]


def test_a_rows_own_words_count_where_they_are_for_this_interface() -> None:
    own = {"input": [{"role": "developer", "content": "Play."}, {"role": "user", "content": "Go."}]}
    tool = {"type": "function", "name": "step", "description": "Mine.", "parameters": {"type": "object"}}
    with_tool = {**ROW, "responses_create_params": {**own, "tools": [tool]}}
    start = begin("tools", with_tool)[1]
    assert [each["role"] for each in start.messages] == ["system", "user"] and start.messages[0]["content"] == "Play."
    assert start.tools[0]["function"]["description"] == "Mine."
    assert "Play." not in str(begin("text", with_tool)[1].messages), "they speak of a tool that is not there"
    without = begin("text", {**ROW, "responses_create_params": own})[1]
    assert without.messages[0]["content"] == "Play." and without.messages[1]["content"].startswith("Go.\n\nThe board")


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim_board": [1, 4]},
        {"dim_board": "4x4"},
        {"dim_board": [4, 65]},
        {"dim_board": [4]},
        {"dim_board": [4.0, 4]},
        {"box_type": "I"},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_a_row_that_is_no_puzzle_is_the_users_mistake(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        begin("text", {**ROW, **wrong})


def test_how_it_is_played_is_part_of_what_a_row_is() -> None:
    identities = [
        load_episodes("tetris", settings).identity() for settings in ({}, {"interface": "text"}, {"compat": True})
    ]
    assert len({json.dumps(each) for each in identities}) == 3
    assert [load_episodes("tetris", {"interface": each}).has_tools for each in ("tools", "text")] == [True, False]


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="interface"):
        load_episodes("tetris", {"interface": "tool"})
