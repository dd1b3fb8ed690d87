"""Whatever an engine does, every sample is had exactly once or is owed with a reason, and nothing finished is asked
again. The engine is a real process.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rollouts.fake_engine import QUICK, Result, run, running

from holdfast.engines.fake_server import special_seed
from holdfast.rollouts.collection import Sample
from holdfast.rollouts.counts import Counts


def once_each(result: Result, prompts: int = 20) -> bool:
    good = Counter((line["id"], line["repeat"]) for line in result.lines if "error" not in line)
    return len(result.rows) == 2 * prompts == len(good) and set(good.values()) == {1}


def await_true(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("fault", ["500", "503", "429", "close", "half", "garbage", "html", "shape", "empty", "abort"])
def test_a_passing_fault_costs_a_try_and_nothing_else(tmp_path: Path, fault: str) -> None:
    limits = dataclasses.replace(QUICK, tries=10)
    with running(tmp_path, "--fault", f"{fault}@0.3", "--retry-after", "0.02") as engine:
        result = run(tmp_path, engine.url, limits=limits)
        assert len(engine.asked()) > 40, "the fault befell some"
    assert once_each(result) and result.trouble is None and not result.counts.failed


@pytest.mark.parametrize(
    ("fault", "kind", "asked"),
    [
        ("garbage", "malformed", 3),
        ("shape", "malformed", 3),
        ("half", "connection", 3),
        ("500", "server", 3),
        ("400", "refused", 1),
        ("context", "context_length", 1),
    ],
)
def test_one_prompt_that_always_fails_is_a_typed_failure_and_spoils_no_other(
    tmp_path: Path, fault: str, kind: str, asked: int
) -> None:
    bad = Sample("13+3", 1)
    with running(tmp_path) as engine:
        result = run(
            tmp_path,
            engine.url,
            seed=lambda sample: special_seed(fault) if sample == bad else sample.repeat,
        )
        tries = [each for each in engine.asked() if each["seed"] == special_seed(fault)]
    assert result.counts.failed == {kind: 1} and set(result.rows) | {bad} == {*result.rows, bad}
    assert len(result.rows) == 39 and len(tries) == asked
    (failure,) = [line for line in result.lines if "error" in line]
    assert (failure["id"], failure["repeat"], failure["attempt"]) == ("13+3", 1, 1) and "reward" not in failure


def test_an_engine_killed_in_the_middle_and_started_again_costs_nothing(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, tries=1)  # a single charged try would fail a sample
    with running(tmp_path, "--latency", "0.05") as engine:

        def restart() -> None:
            await_true(lambda: len(engine.asked()) > 20)
            engine.kill()
            engine.start("--latency", "0.05", "--start-delay", "0.3")

        helper = threading.Thread(target=restart)
        helper.start()
        result = run(tmp_path, engine.url, prompts=40, limits=limits)
        helper.join()
    assert once_each(result, 40) and not result.counts.failed
    assert "the engine answers again\n" in result.seen


def test_an_engine_that_dies_again_and_again_is_outlived(tmp_path: Path) -> None:
    with running(tmp_path, "--dies-after", "15") as engine:
        is_over = threading.Event()

        def revive() -> None:
            while not is_over.is_set():
                if engine.process is not None and engine.process.poll() is not None:
                    engine.start("--dies-after", "15")
                time.sleep(0.01)

        helper = threading.Thread(target=revive)
        helper.start()
        result = run(tmp_path, engine.url)
        is_over.set()
        helper.join()
    assert once_each(result) and not result.counts.failed


def test_an_engine_that_stays_away_is_given_up_and_the_rest_is_owed(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, patience=0.5)
    with running(tmp_path, "--dies-after", "10") as engine:
        result = run(tmp_path, engine.url, limits=limits)
        assert result.trouble is not None and result.trouble.kind == "engine_down"
        assert set(result.counts.failed) == {"engine_down"} and len(result.rows) <= 10
        engine.start()
        before = len(engine.asked())
        again = run(tmp_path, engine.url, attempt=2)
        assert len(engine.asked()) - before == 40 - len(result.rows), "nothing finished is asked again"
    assert once_each(again)


def test_an_engine_that_hangs_ends_as_a_stall_or_as_deadlines_but_ends(tmp_path: Path) -> None:
    stalling = dataclasses.replace(QUICK, deadline=60.0, stall=0.5)
    with running(tmp_path, "--hangs-after", "10") as engine:
        result = run(tmp_path, engine.url, limits=stalling)
    assert result.trouble is not None and result.trouble.kind == "stalled"
    assert result.counts.failed == {"stalled": 8} and len(result.rows) == 10


def test_a_request_that_is_never_answered_meets_its_deadline(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, deadline=0.2)
    with running(tmp_path) as engine:
        result = run(
            tmp_path,
            engine.url,
            limits=limits,
            seed=lambda sample: special_seed("hang") if sample == Sample("13+3", 1) else 0,
        )
    assert result.counts.failed == {"timeout": 1} and len(result.rows) == 39


def test_429_is_waited_out_as_long_as_the_engine_asks_and_costs_no_try(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, tries=1, in_flight=1)
    with running(tmp_path, "--fault", "429:1", "--retry-after", "0.5") as engine:
        started = time.monotonic()
        result = run(tmp_path, engine.url, limits=limits, prompts=2)
    assert once_each(result, 2) and time.monotonic() - started >= 0.5


def test_an_engine_that_only_says_429_is_a_typed_failure_in_the_end(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, patience=0.1)
    with running(tmp_path, "--fault", "429", "--retry-after", "0.02") as engine:
        result = run(tmp_path, engine.url, limits=limits, prompts=2)
    assert result.counts.failed == {"rate_limited": 4} and result.rows == {}


def test_an_engine_that_answers_500_and_says_it_is_well_is_not_hammered(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, patience=1.0, tries=100)
    with running(tmp_path, "--fault", "500") as engine:
        result = run(tmp_path, engine.url, limits=limits)
        assert len(engine.asked()) < 40, "one at a time while it fails"
    assert result.trouble is not None and result.trouble.kind == "engine_down"


def test_asked_to_stop_while_the_engine_is_gone_it_stops(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUICK, grace=0.2, patience=3600)
    with running(tmp_path, "--dies-after", "10") as engine:
        gone: list[float] = []

        def should_stop(counts: Counts) -> bool:
            if engine.process is not None and engine.process.poll() is not None:
                gone.append(time.monotonic())
            return bool(gone) and time.monotonic() - gone[0] > 0.3

        result = run(tmp_path, engine.url, limits=limits, should_stop=should_stop)
    assert result.trouble is None and not result.counts.failed and len(result.rows) <= 10
