"""A hung or failing engine must cost a bounded time and never a wrong number."""

from __future__ import annotations

import asyncio
from collections import Counter

from holdfast.engines.completions import Completion, EngineError
from holdfast.rollouts.collect import Answer, Ask, Limits, collect
from holdfast.rollouts.collection import Sample

SAMPLES = [Sample(f"p{number}", repeat) for repeat in range(2) for number in range(20)]
QUICK = Limits(in_flight=4, deadline=0.05, tries=3, backoff=0.001)


def run(ask: Ask, stop_after: int = 10**9, limits: Limits = QUICK) -> list[Answer]:
    answers: list[Answer] = []
    asyncio.run(collect(SAMPLES, ask, answers.append, lambda: len(answers) >= stop_after, limits))
    return answers


def test_every_sample_is_asked_once_and_no_more_than_allowed_at_a_time() -> None:
    flying = peak = 0

    async def ask(sample: Sample) -> Completion:
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0.001)
        flying -= 1
        return Completion(sample.id, "stop")

    answers = run(ask)
    assert sorted(answer.sample for answer in answers) == sorted(SAMPLES)
    assert all(answer.completion and answer.completion.text == answer.sample.id for answer in answers)
    assert peak == 4


def test_an_engine_that_never_answers_ends_as_a_typed_failure() -> None:
    async def ask(sample: Sample) -> Completion:
        await asyncio.sleep(60)
        raise AssertionError

    answers = run(ask)
    assert Counter(answer.error.kind for answer in answers if answer.error) == {"timeout": len(SAMPLES)}
    assert all("reward" not in answer.failure() for answer in answers)


def test_a_passing_fault_is_tried_again() -> None:
    tries: Counter[Sample] = Counter()

    async def ask(sample: Sample) -> Completion:
        tries[sample] += 1
        if tries[sample] < 3:
            raise EngineError("connection", "reset")
        return Completion("x", "stop")

    assert all(answer.completion for answer in run(ask))


def test_a_refusal_is_not_tried_again() -> None:
    tries: Counter[Sample] = Counter()

    async def ask(sample: Sample) -> Completion:
        tries[sample] += 1
        raise EngineError("refused", "422")

    assert all(answer.completion is None for answer in run(ask))
    assert set(tries.values()) == {1}


def test_the_word_to_stop_is_heard_between_requests() -> None:
    async def ask(sample: Sample) -> Completion:
        return Completion("x", "stop")

    assert 5 <= len(run(ask, stop_after=5)) <= 5 + QUICK.in_flight
