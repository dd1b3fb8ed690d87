"""What stands in for a policy must play by what it is shown, well or badly as it is told, and the same every time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.engines.fake_answers import Manner
from holdfast.engines.fake_play import reply

ACTIONS = {"type": "array", "items": {"type": "string"}}
STEP = {"type": "function", "function": {"name": "step", "parameters": {"properties": {"actions": ACTIONS}}}}
NUMBER = {"type": "integer"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": NUMBER, "b": NUMBER}}}}
BOARD = "__X_\n____\n#_##"


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_it_drops_a_piece_where_it_comes_down_lowest() -> None:
    said = reply("m", [user(f"The board:\n{BOARD}\n\nGo.")], [], 0, Manner())
    assert said.text == "<action>Left</action><action>Down</action><action>Down</action>" and not said.calls


def test_with_a_tool_it_says_the_same_by_a_call() -> None:
    messages = [user("Play."), {"role": "tool", "content": json.dumps({"observation": BOARD})}]
    (call,) = reply("m", messages, [STEP], 0, Manner()).calls
    assert call == ("step", '{"actions": ["Left", "Down", "Down"]}')


def test_it_asks_for_a_board_that_it_has_not_seen() -> None:
    assert reply("m", [user("Play.")], [STEP], 0, Manner()).calls == [("step", '{"actions": []}')]


def test_it_looks_at_the_last_board_that_was_shown() -> None:
    messages = [user(BOARD), {"role": "assistant", "content": "<action>Down</action>"}, user("X___\n____\n__##")]
    assert reply("m", messages, [], 0, Manner()).text.startswith("<action>Down</action>")


def test_it_plays_badly_where_it_is_told_to_and_the_same_every_time() -> None:
    said = [reply("m", [user(BOARD)], [], draw, Manner(accuracy=0.0)).text for draw in range(50)]
    assert said == [reply("m", [user(BOARD)], [], draw, Manner(accuracy=0.0)).text for draw in range(50)]
    assert len(set(said)) > 2


def test_any_other_tool_is_called_once_with_the_numbers_of_the_question() -> None:
    asked = [user("Add 3 and 4.")]
    assert reply("m", asked, [ADD], 0, Manner()).calls == [("add", '{"a": 3, "b": 4}')]
    told = [*asked, {"role": "assistant", "content": None}, {"role": "tool", "content": '{"sum": 7}'}]
    assert reply("m", told, [ADD], 0, Manner()) == ('{"sum": 7}', ())
    assert reply("m", told, [ADD], 0, Manner(endless=True)).calls
    assert reply("m", told, [ADD], 0, Manner(calls=2)).calls
    twice = [*told, {"role": "assistant", "content": None}, {"role": "tool", "content": "9"}]
    assert reply("m", twice, [ADD], 0, Manner(calls=2)) == ("9", ())
    assert reply("m", [*twice, user("Again, 5 and 6.")], [ADD], 0, Manner(calls=2)).calls


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_errs_as_often_as_it_is_told(share: float) -> None:
    def is_json(text: str) -> bool:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    calls = [
        reply("m", [user(f"Add {n} and 4.")], [ADD], 0, Manner(bad_json=share, bad_tool=share)).calls[0]
        for n in range(1000)
    ]
    assert abs(sum(name != "add" for name, _ in calls) / 1000 - share) < 0.06
    assert abs(sum(not is_json(text) for _, text in calls) / 1000 - share) < 0.06


def test_without_tools_or_boards_it_answers_as_ever() -> None:
    assert reply("m", [user("3+4=")], [], 0, Manner()).text == "7"
