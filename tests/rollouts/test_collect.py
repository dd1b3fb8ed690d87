"""The loop must bound what it holds, hear the word to stop, and lose nothing that was answered."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rollouts.fake_engine import grade, ids, run, running

from holdfast.engines.completions import EngineError, Failure
from holdfast.environments import Grade
from holdfast.rollouts.calls import Limits
from holdfast.rollouts.collect import Failed, Leave, Work, collect
from holdfast.rollouts.collection import Collection, Owed, Row, Sample
from holdfast.rollouts.counts import Counts
from holdfast.rollouts.single_turn import NotGraded

SAMPLES = [Owed(Sample(f"p{number}", repeat)) for repeat in range(2) for number in range(20)]
LIMITS = Limits(in_flight=4, grace=0.2)


def run_loop(
    directory: Path,
    work: Work,
    owed: Iterator[Owed] | list[Owed] = SAMPLES,
    should_stop: Callable[[Counts], bool] = lambda counts: False,
    trouble: Callable[[], EngineError | None] = lambda: None,
) -> tuple[Counts, EngineError | None]:
    counts = Counts(len(SAMPLES))

    async def main() -> EngineError | None:
        collection = Collection(directory, 1, "t")
        stop = lambda: should_stop(counts)  # noqa: E731
        return await collect(owed, work, collection, counts, limits=LIMITS, trouble=trouble, should_stop=stop)

    return counts, asyncio.run(main())


def owed_after(directory: Path) -> list[Owed]:
    index = Collection(directory, 2, "u").index([f"p{number}" for number in range(20)], 2)
    return list(index.owed())


def row_of(item: Owed) -> Row:
    return {"id": item.sample.id, "repeat": item.sample.repeat, "reward": 1.0}


def test_every_sample_is_worked_on_once_and_no_more_than_allowed_at_a_time(tmp_path: Path) -> None:
    flying = peak = 0

    async def work(item: Owed, leave: Leave) -> Row:
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0.001)
        flying -= 1
        return row_of(item)

    counts, _ = run_loop(tmp_path, work)
    assert (counts.done, counts.owed, counts.in_flight) == (40, 0, 0)
    assert owed_after(tmp_path) == [] and peak == 4


def test_owed_work_is_taken_as_it_is_needed(tmp_path: Path) -> None:
    taken = ahead = finished = 0

    def owed() -> Iterator[Owed]:
        nonlocal taken, ahead
        for number in range(5000):
            taken += 1
            ahead = max(ahead, taken - finished)
            yield Owed(Sample(f"p{number}", 0))

    async def work(item: Owed, leave: Leave) -> Row:
        nonlocal finished
        leave()
        await asyncio.sleep(0)
        finished += 1
        return row_of(item)

    run_loop(tmp_path, work, owed())
    assert taken == 5000 and ahead <= 2 * LIMITS.in_flight + 64 + 1


def test_what_no_longer_needs_the_engine_leaves_its_place_to_others(tmp_path: Path) -> None:
    graded = asyncio.Event()
    left = 0

    async def work(item: Owed, leave: Leave) -> Row:
        nonlocal left
        leave()
        left += 1
        if left == len(SAMPLES):
            graded.set()
        await graded.wait()  # no grade before all have been with the engine, ten times what is allowed there
        return row_of(item)

    assert run_loop(tmp_path, work)[0].done == 40


def test_a_row_counts_only_when_another_process_could_read_it(tmp_path: Path) -> None:
    late: list[int] = []

    async def work(item: Owed, leave: Leave) -> Row:
        return row_of(item)

    def should_stop(counts: Counts) -> bool:
        late.append(counts.done - (40 - len(owed_after(tmp_path))))
        return False

    run_loop(tmp_path, work, should_stop=should_stop)
    assert max(late) <= 0


def test_the_word_to_stop_ends_what_takes_too_long_and_keeps_the_rest(tmp_path: Path) -> None:
    async def work(item: Owed, leave: Leave) -> Row:
        if item.sample.id == "p7":
            await asyncio.sleep(3600)
        return row_of(item)

    counts, trouble = run_loop(tmp_path, work, should_stop=lambda counts: counts.done >= 5)
    assert trouble is None and not counts.failed
    assert Owed(Sample("p7", 0)) in owed_after(tmp_path), "it was abandoned, and did not fail"
    assert 5 <= counts.done == 40 - len(owed_after(tmp_path))


def test_trouble_is_a_typed_failure_of_what_was_in_flight(tmp_path: Path) -> None:
    async def work(item: Owed, leave: Leave) -> Row:
        await asyncio.sleep(3600)
        raise AssertionError

    counts, trouble = run_loop(tmp_path, work, trouble=lambda: EngineError(Failure.STALLED, "no answer"))
    assert trouble is not None and trouble.kind == "stalled"
    assert counts.failed == {"stalled": 4} and len(owed_after(tmp_path)) == 40


def test_hundreds_of_failures_in_a_row_end_it(tmp_path: Path) -> None:
    async def work(item: Owed, leave: Leave) -> Row:
        raise Failed(Failure.REFUSED, "404: no such model")

    counts, trouble = run_loop(tmp_path, work, [Owed(Sample(f"p{n}", 0)) for n in range(5000)])
    assert trouble is not None and "no such model" in str(trouble)
    assert 256 <= counts.failed["refused"] < 512


def test_a_mistake_in_an_environment_is_not_a_failure_of_the_engine(tmp_path: Path) -> None:
    async def work(item: Owed, leave: Leave) -> Row:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_loop(tmp_path, work)


def test_rows_that_cannot_be_written_end_it(tmp_path: Path) -> None:
    async def work(item: Owed, leave: Leave) -> Row:
        return row_of(item)

    with pytest.raises(FileNotFoundError):
        run_loop(tmp_path / "nowhere", work)


@pytest.mark.parametrize("kind", ["scorer_timeout", "scorer_error"])
def test_a_response_that_cannot_be_graded_is_graded_again_and_not_asked_for_again(tmp_path: Path, kind: str) -> None:
    graded: Counter[str] = Counter()

    async def weak(prompt_id: str, response: str) -> Grade:
        graded[prompt_id] += 1
        if prompt_id == "12+2":
            raise NotGraded(kind, "the verifier was killed")  # type: ignore[arg-type]
        return await grade(prompt_id, response)

    with running(tmp_path) as engine:
        first = run(tmp_path, engine.url, grading=weak)
        asked = len(engine.asked())
        second = run(tmp_path, engine.url, attempt=2)
        assert len(engine.asked()) == asked == 40
    assert first.counts.failed == {kind: 2} and len(first.rows) == 38
    assert len(second.rows) == 40 and second.rows[Sample("12+2", 1)]["reward"] == 1.0
    assert [line["error"]["type"] for line in first.lines if "error" in line] == [kind] * 2


def test_a_reward_that_is_no_number_is_an_error_of_the_scorer(tmp_path: Path) -> None:
    async def broken(prompt_id: str, response: str) -> Grade:
        return Grade(float("nan"))

    with running(tmp_path) as engine:
        result = run(tmp_path, engine.url, prompts=2, grading=broken)
    assert result.counts.failed == {"scorer_error": 4} and result.rows == {}


def test_rates_and_tokens_are_counted(tmp_path: Path) -> None:
    before = threading.active_count()
    lines: list[str] = []
    with running(tmp_path, "--latency", "0.05") as engine:
        result = run(tmp_path, engine.url, on_report=lambda counts: lines.append(counts.line()))
    assert result.counts.tokens == sum(row["usage"]["completion_tokens"] for row in result.rows.values()) > 0
    assert result.counts.rate > 0 and lines[-1].startswith("40 of 40 done, 0 owed")
    assert threading.active_count() == before, "the writer's thread has ended"
    assert set(ids(20)) == {row["id"] for row in result.rows.values()}
