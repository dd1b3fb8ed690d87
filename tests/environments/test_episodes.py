"""An environment of one's own is a class with two methods, and needs no registration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.odd_episodes import Adding

from holdfast.core.errors import ConfigError
from holdfast.environments import load_environment
from holdfast.environments.episodes import SHIPPED, Episodes, load_episodes
from holdfast.environments.mathematics import Mathematics
from holdfast.environments.one_turn import OneTurn
from holdfast.environments.tool_calls import read_calls


def test_an_episode_alone_is_enough() -> None:
    episodes = load_episodes("tests.rollouts.odd_episodes:Adding")
    assert isinstance(episodes.new(), Adding) and episodes.new() is not episodes.new()
    assert episodes.identity() == {"environment": "adding", "version": 1, "settings": {}}
    assert (episodes.has_tools, episodes.prompts(), episodes.service()) == (True, None, None)


def test_one_without_a_name_is_known_by_where_it_is() -> None:
    name = "tests.rollouts.odd_episodes:Trouble"
    identity = load_episodes(name, {"where": "start"}).identity()
    assert identity["environment"] == name and identity["settings"]["where"] == "start"


def test_a_single_turn_environment_keeps_its_identity() -> None:
    settings = {"count": 5, "format": "raw"}
    episodes, environment = load_episodes("arithmetic", settings), load_environment("arithmetic", settings)
    assert isinstance(episodes, OneTurn) and episodes.identity() == environment.identity() and episodes.turns == 1
    assert list(episodes.prompts().ids) == [each.id for each in environment.prompts()]


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        ("tetri", "no environment `tetri`", "tetris"),
        ("tests.rollouts.odd_episodes:Ading", "has no `Ading`", "Adding"),
        ("tests.rollouts.odd_episodes:OddError", "expected a class derived from", ""),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(name: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load_episodes(name)
    assert hint in error.value.hint


def test_a_setting_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load_episodes("tetris", {"interfaces": "text"})
    assert "interface" in error.value.hint


def test_what_ships_can_be_loaded_without_the_libraries_that_it_is_for() -> None:
    needed: dict[str, dict[str, Any]] = {
        "nemo_gym": {"server": "x", "url": "http://h"},
        "gymnasium": {"id": "x"},
        "verifiers": {"taskset": "x"},
        "dataset": {"name": "gsm8k"},
        "reasoning_gym": {"tasks": ["chain_sum"]},
    }
    for name in SHIPPED:
        assert isinstance(load_episodes(name, needed.get(name, {})), Episodes)


def test_mathematics_is_a_data_set_with_a_verifier(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"id": "h", "problem": "What is a half?", "answer": "1/2"}\n')
    episodes = load_episodes("math", {"data": str(path)})
    assert isinstance(episodes, Mathematics) and episodes.identity()["verifier"]["name"] == "math"
    assert load_episodes("math", episodes.resolved()).identity() == episodes.identity()

    async def grade(text: str) -> tuple[float, object]:
        async with episodes.opened():
            episode, prompts = episodes.new(), episodes.prompts()
            assert prompts is not None
            start = episode.start(0, prompts.row("h"))
            assert not asyncio.iscoroutine(start)
            step = await episode.step({"role": "assistant", "content": text})  # type: ignore[misc]
        return step.reward, step.info.get("answer")

    assert asyncio.run(grade("So \\boxed{0.5}.")) == (1.0, "1/2") and asyncio.run(grade("No idea."))[0] == 0.0


def test_a_message_without_calls_has_none() -> None:
    assert read_calls({"role": "assistant", "content": "x"}) == [] == read_calls({"content": "x", "tool_calls": None})
