"""What the policy does ends in a reward, what the machinery does is a typed failure, and every rollout is had once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.fake_engine import QUICK, Server, running
from tests.rollouts.odd_episodes import Adding, Blocking, Trouble
from tests.rollouts.play import Result, collect_episodes, rows_of

from holdfast.environments.episodes import load_episodes
from holdfast.environments.prompt_set import OwnPrompts, PromptSet
from holdfast.rollouts.calls import Limits
from holdfast.rollouts.collect import AHEAD
from holdfast.rollouts.collection import Row
from holdfast.rollouts.multi_turn import replay

ADDING = "tests.rollouts.odd_episodes:Adding"
TROUBLE = "tests.rollouts.odd_episodes:Trouble"
PUZZLES = Path(__file__).parents[2] / "examples" / "grl_tetris" / "test_examples_200.jsonl"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("engine"), "--accuracy", "0.7") as server:
        yield server


@pytest.fixture(autouse=True)
def forget() -> None:
    Adding.lives.clear()
    Trouble.is_mended, Trouble.closed = False, 0


def puzzles(count: int) -> OwnPrompts:
    whole = PromptSet(PUZZLES)
    found = OwnPrompts({name: whole.row(name) for name in whole.ids[:count]})
    whole.close()
    return found


def one(result: Result) -> Row:
    (row,) = result.rows.values()
    return row


@pytest.mark.parametrize("interface", ["tools", "text"])
def test_tetris_is_played_to_exactly_as_many_rows_as_are_wanted(tmp_path: Path, engine: Server, interface: str) -> None:
    prompts = puzzles(25)
    result = collect_episodes(tmp_path, engine.url, "tetris", prompts, settings={"interface": interface}, repeats=4)
    assert Counter(sample.id for sample in result.rows) == dict.fromkeys(prompts.ids, 4) and not result.failures
    wins = [row for row in result.rows.values() if row["success"]]
    assert 20 <= len(wins) < 100, "the engine wins sometimes"
    for row in result.rows.values():
        rows = round((row["reward"] + 0.1 * row["num_steps"]) / 10)
        assert row["success"] == (rows > 0) and row["reward"] == pytest.approx(10 * rows - 0.1 * row["num_steps"])
        assert len(str(row["reward"])) <= 5, "no noise of binary fractions"
        assert row["num_steps"] == sum(turn["actions"] for turn in row["turns"])
        assert (row["tool_calls"] > 0) == (interface == "tools")


def test_a_row_has_what_the_document_says_and_what_a_viewer_needs(tmp_path: Path, engine: Server) -> None:
    row = one(collect_episodes(tmp_path, engine.url, "tetris", puzzles(1)))
    assert row["prompt"]["game_id"] == 1 and row["prompt"]["dim_board"] == [5, 5] and row["id"] == "1"
    assert row["response"]["finish_reason"] == row["finish"] == "tool_calls"
    assert {item["type"] for item in row["response"]["output"]} == {"function_call", "function_call_output"}
    assert isinstance(row["reward"], float) and isinstance(row["success"], bool) and isinstance(row["seed"], int)
    assert [each["role"] for each in row["messages"][:4]] == ["system", "user", "assistant", "tool"]
    assert row["usage"]["completion_tokens"] == sum(turn["usage"]["completion_tokens"] for turn in row["turns"])
    boards = [step["board"] for turn in row["turns"] for step in turn["info"]["steps"]]
    assert len(boards) == row["num_steps"] and row["turns"][0]["info"]["before"] == row["turns"][0]["info"]["board"]
    assert all(turn["seconds"] >= 0 for turn in row["turns"]) and row["timing"]["finished"] >= row["timing"]["started"]


def test_the_same_seeds_make_the_same_rollouts(tmp_path: Path, engine: Server) -> None:
    def messages(name: str) -> dict[Any, Any]:
        result = collect_episodes(tmp_path / name, engine.url, "tetris", puzzles(5), repeats=3)
        return {sample: row["messages"] for sample, row in result.rows.items()}

    first = messages("first")
    assert first == messages("second")
    assert len({json.dumps(each) for sample, each in first.items() if sample.id == "1"}) > 1, "repeats differ"


def test_the_episodes_seed_is_of_prompt_and_repeat_and_not_of_the_model(tmp_path: Path, engine: Server) -> None:
    def seeds(name: str, drawn: int) -> dict[Any, Any]:
        seeds = "tests.rollouts.odd_episodes:Seeds"
        result = collect_episodes(tmp_path / name, engine.url, seeds, rows_of(3), repeats=2, seed=lambda sample: drawn)
        return {sample: row["info"]["seed"] for sample, row in result.rows.items()}

    assert seeds("one", 1) == seeds("two", 2) and len(set(seeds("three", 3).values())) == 6


def test_stopped_and_begun_again_it_has_every_rollout_once(tmp_path: Path, engine: Server) -> None:
    prompts = rows_of(40)
    slow = Limits(in_flight=4, grace=0.2)
    first = collect_episodes(
        tmp_path, engine.url, ADDING, prompts, repeats=2, limits=slow, should_stop=lambda counts: counts.done >= 7
    )
    assert 7 <= len(first.rows) < 80 and not first.failures
    second = collect_episodes(tmp_path, engine.url, ADDING, prompts, repeats=2, attempt=2)
    assert Counter((line["id"], line["repeat"]) for line in second.lines) == {
        (name, repeat): 1 for name in prompts.ids for repeat in range(2)
    }
    assert Adding.lives["open"] == 0, "each was closed, also those that were given up"


def test_what_is_begun_follows_what_is_in_flight(tmp_path: Path, engine: Server) -> None:
    result = collect_episodes(tmp_path, engine.url, ADDING, rows_of(300))
    assert len(result.rows) == 300 and {row["reward"] for row in result.rows.values()} == {11.0}
    assert Adding.lives["started"] == 300
    assert Adding.lives["most open"] <= 2 * QUICK.in_flight + AHEAD, "with the engine, and being closed"


def test_memory_follows_what_is_in_flight_and_not_what_is_wanted(tmp_path: Path, engine: Server) -> None:
    def peak(name: str, repeats: int) -> int:
        tracemalloc.start()
        counts = collect_episodes(
            tmp_path / name, engine.url, "tetris", puzzles(20), repeats=repeats, keep=False
        ).counts
        assert counts.done == 20 * repeats
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak("warm", 1)
    few, many = peak("few", 4), peak("many", 24)
    assert many - few < 3 * 2**20, f"{few} bytes for 80 rollouts of 15 KB, {many} for 480, which are 6 MB more"


@pytest.mark.parametrize(
    ("option", "ended", "says"),
    [("--bad-json", "bad_tool_json", "not JSON"), ("--bad-tool", "unknown_tool", "did you mean add")],
)
def test_calls_that_cannot_be_carried_out_are_answered_and_bounded(
    tmp_path: Path, option: str, ended: str, says: str
) -> None:
    with running(tmp_path, option, "1", "--endless") as engine:
        row = one(collect_episodes(tmp_path, engine.url, ADDING, rows_of(1), bad_turns=3))
    told = [each for each in row["messages"] if each["role"] == "tool"]
    assert len(told) == 3 == row["tool_calls"] and all(says in each["content"] for each in told)
    assert row["info"]["ended"] == ended and row["truncated"] and not row["terminated"]
    assert (row["reward"], row["success"], row["num_steps"]) == (0.0, False, 0)
    json.loads(row["response"]["output"][-1]["output"])


def test_a_policy_that_errs_now_and_then_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "--bad-json", "0.3", "--bad-tool", "0.3", "--accuracy", "0.9") as engine:
        result = collect_episodes(tmp_path, engine.url, "tetris", puzzles(40), tool_calls=40, turns=60)
    assert len(result.rows) == 40 and not result.failures
    told = [(row["success"], [str(each["content"]) for each in row["messages"]]) for row in result.rows.values()]
    assert any(won and any('"error"' in content for content in contents) for won, contents in told)


@pytest.mark.parametrize(
    ("bound", "ended"),
    [({"turns": 5}, "turn_limit"), ({"tool_calls": 5}, "tool_limit"), ({"tokens": 20}, "token_limit")],
)
def test_a_loop_without_end_meets_a_limit_and_keeps_what_it_has_earned(tmp_path: Path, bound: Any, ended: str) -> None:
    with running(tmp_path, "--endless") as engine:
        row = one(collect_episodes(tmp_path, engine.url, ADDING, rows_of(1), **bound))
    assert row["info"]["ended"] == ended and row["truncated"] and not row["terminated"]
    assert row["reward"] == row["num_steps"] == row["tool_calls"] == len(row["turns"]) > 1


def test_what_is_only_known_at_the_end_is_added_there(tmp_path: Path, engine: Server) -> None:
    row = one(collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(1), settings={"where": "no"}, turns=2))
    assert row["reward"] == 102.0 and row["info"]["why"] == row["info"]["ended"] == "turn_limit"
    whole = one(collect_episodes(tmp_path / "b", engine.url, TROUBLE, rows_of(1), settings={"where": "no"}))
    assert whole["reward"] == 3.0 and whole["terminated"] and "ended" not in whole["info"]


def test_a_message_that_is_cut_off_is_judged_and_is_the_last(tmp_path: Path, engine: Server) -> None:
    row = one(collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(1), settings={"where": "no"}, max_tokens=2))
    assert len(row["turns"]) == 1 and row["reward"] == 101.0
    assert row["info"]["ended"] == "output_length" and row["finish"] == "length" and row["truncated"]


def test_a_chat_that_outgrows_the_context_keeps_what_it_has_earned(tmp_path: Path) -> None:
    with running(tmp_path, "--endless", "--context", "300") as engine:
        row = one(collect_episodes(tmp_path, engine.url, ADDING, rows_of(1), turns=500))
        asked = len(engine.asked())
    assert row["info"]["ended"] == "context_length" and row["truncated"] and row["reward"] == len(row["turns"]) > 5
    assert asked == len(row["turns"]) + 1, "it is not asked again"


def test_a_prompt_that_does_not_fit_is_a_failure_and_no_reward(tmp_path: Path) -> None:
    with running(tmp_path, "--context", "10") as engine:
        result = collect_episodes(tmp_path, engine.url, ADDING, rows_of(1))
    assert result.rows == {} and result.failures[0]["error"]["type"] == "context_length"


@pytest.mark.parametrize("where", ["start", "step"])
@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("raise", "env_error", "ZeroDivisionError: division by zero (odd_episodes.py:"),
        ("own", "env_error", "OddError"),
        ("hang", "env_timeout", "took more than 0.2 s"),
    ],
)
def test_an_environment_that_fails_costs_one_rollout(
    tmp_path: Path, engine: Server, where: str, what: str, kind: str, says: str
) -> None:
    settings = {"where": where, "what": what}
    first = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(2), settings=settings, step=0.2)
    assert first.rows == {} and [row["error"]["type"] for row in first.failures] == [kind] * 2
    assert f"`{where}`" in first.failures[0]["error"]["message"] and says in first.failures[0]["error"]["message"]
    assert Trouble.closed == 2 and "response" not in first.failures[0]
    Trouble.is_mended = True
    second = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(2), settings=settings, attempt=2)
    assert [row["reward"] for row in second.rows.values()] == [3.0, 3.0]


@pytest.mark.parametrize(("what", "says"), [("nan", "a reward of nan"), ("rubbish", "expected a Step")])
def test_what_is_no_step_is_an_error_of_the_environment(tmp_path: Path, engine: Server, what: str, says: str) -> None:
    result = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(1), settings={"where": "step", "what": what})
    assert result.failures[0]["error"]["type"] == "env_error" and says in result.failures[0]["error"]["message"]


@pytest.mark.parametrize("what", ["raise", "own"])
def test_what_cannot_be_closed_keeps_its_reward(tmp_path: Path, engine: Server, what: str) -> None:
    settings = {"where": "close", "what": what}
    assert one(collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(1), settings=settings))["reward"] == 3.0


@pytest.mark.parametrize("bound", ["turn", "rollout"])
def test_a_deadline_that_is_not_met_is_a_failure(tmp_path: Path, engine: Server, bound: str) -> None:
    settings, limits = {"where": "step", "what": "hang"}, dict[str, Any]({bound: 0.3})
    result = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(1), settings=settings, **limits)
    (row,) = result.failures
    assert row["error"]["type"] == "timeout" and bound in row["error"]["message"] and len(row["turns"]) == 2
    assert Trouble.closed == 1


def test_what_blocks_its_thread_stops_neither_the_others_nor_the_end(tmp_path: Path, engine: Server) -> None:
    Blocking.let_go.clear()
    blocking = "tests.rollouts.odd_episodes:Blocking"
    try:
        began = time.monotonic()
        result = collect_episodes(tmp_path, engine.url, blocking, rows_of(3), step=0.3)
        assert {row["error"]["type"] for row in result.failures} == {"env_timeout"} and time.monotonic() - began < 10
    finally:
        Blocking.let_go.set()
    again = collect_episodes(tmp_path, engine.url, blocking, rows_of(3), attempt=2)
    assert len(again.rows) == 3 and threading.get_ident() not in Blocking.threads


def test_a_call_that_fails_in_the_middle_is_made_again_and_the_episode_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "500@0.2", "--fault", "close@0.1", "--endless") as engine:
        limits = Limits(in_flight=8, tries=12, backoff=0.01, patience=30.0)
        result = collect_episodes(tmp_path, engine.url, ADDING, rows_of(20), limits=limits, turns=6)
    assert len(result.rows) == 20 and Adding.lives["started"] == 20
    assert {row["reward"] for row in result.rows.values()} == {6.0} and result.counts.retried > 0


def test_an_engine_that_is_started_again_costs_no_episode(tmp_path: Path) -> None:
    with running(tmp_path, "--dies-after", "60", "--endless") as engine:

        def start_again() -> None:
            assert engine.process is not None
            engine.process.wait()
            engine.start("--endless")

        restart = threading.Thread(target=start_again)
        restart.start()
        result = collect_episodes(tmp_path, engine.url, ADDING, rows_of(20), turns=6)
        restart.join()
    assert len(result.rows) == 20 and not result.failures and Adding.lives["started"] == 20


def test_what_could_not_be_graded_is_graded_again_and_nobody_is_asked(tmp_path: Path) -> None:
    settings = {"where": "step", "what": "ungraded"}
    with running(tmp_path) as engine:
        first = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(3), settings=settings)
        assert {row["error"]["type"] for row in first.failures} == {"scorer_error"}
        assert all(len(row["turns"]) == 2 for row in first.failures)
        asked = len(engine.asked())
        Trouble.is_mended = True
        second = collect_episodes(tmp_path, engine.url, TROUBLE, rows_of(3), settings=settings, attempt=2, turns=2)
        assert len(engine.asked()) == asked
    assert [row["reward"] for row in second.rows.values()] == [102.0] * 3
    assert {row["usage"]["completion_tokens"] for row in second.rows.values()} != {0}


def test_a_recorded_rollout_is_judged_again_without_an_engine(tmp_path: Path, engine: Server) -> None:
    result = collect_episodes(tmp_path, engine.url, "tetris", puzzles(10))
    for row in result.rows.values():
        again = asyncio.run(replay(load_episodes("tetris"), row))
        for turn in (*row["turns"], *again["turns"]):
            turn.pop("seconds")
        assert again == row


def test_a_single_turn_environment_is_a_rollout_of_one_turn(tmp_path: Path, engine: Server) -> None:
    settings = {"count": 20, "digits": 2}
    result = collect_episodes(tmp_path, engine.url, "arithmetic", settings=settings, repeats=2)
    assert len(result.rows) == 40 and {len(row["turns"]) for row in result.rows.values()} == {1}
    share = sum(row["success"] for row in result.rows.values()) / 40
    assert 0.4 < share < 0.95 and all("answer" in row for row in result.rows.values())
    prompts = load_episodes("arithmetic", settings).prompts()
    assert prompts is not None and {sample.id for sample in result.rows} == set(prompts.ids)
