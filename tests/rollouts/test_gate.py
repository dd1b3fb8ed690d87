"""How many are in flight must follow the engine: grow while it has room, shrink before it drowns, and say why."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.engines.completions import Failure
from holdfast.rollouts import load
from holdfast.rollouts.admission import Admission
from holdfast.rollouts.gate import QUIET, Bounds, Change, Gate, Load

ROOMY = Load(0.3, 32, 0, 0)


def answer(gate: Gate, times: int, now: float, in_flight: int | None = None) -> list[Change]:
    changes = [gate.hear(None, gate.limit if in_flight is None else in_flight, now) for _ in range(times)]
    return [change for change in changes if change]


def test_a_roomy_engine_gets_more_once_all_that_is_allowed_was_once_round() -> None:
    gate = Gate(Bounds(start=32, most=100))
    gate.look(ROOMY, 32, 0.0)
    answer(gate, 31, 1.0)
    assert gate.look(ROOMY, 32, 5.0) is None
    answer(gate, 1, 6.0)
    found = gate.look(ROOMY, 32, 10.0)
    assert found is not None and found.limit == 40 and "30% full" in found.reason
    answer(gate, 1000, 11.0, in_flight=10)
    assert gate.look(ROOMY, 10, 15.0) is None, "what is not used need not grow"


@pytest.mark.parametrize(
    ("load_now", "limit", "says"),
    [
        (Load(0.9, 100, 0, 0), 77, "cache is 90% full"),
        (Load(0.5, 100, 0, 3), 80, "preempted 3 requests"),
    ],
)
def test_a_full_engine_gets_fewer(load_now: Load, limit: int, says: str) -> None:
    gate = Gate(Bounds(start=100))
    gate.look(Load(0.5, 100, 0, 0), 100, 0.0)
    found = gate.look(load_now, 100, 5.0)
    assert found is not None and found.limit == limit and says in found.reason
    assert gate.look(load_now._replace(preempted=9), 100, 5.0 + QUIET / 2) is None, "once for each episode"


def test_a_queue_that_stays_is_no_accident() -> None:
    gate = Gate(Bounds(start=100))
    changes = [gate.look(Load(0.7, 20, 30, 0), 100, 5.0 * number) for number in range(6)]
    assert changes[:5] == [None] * 5 and changes[5] is not None and changes[5].limit == 90


def test_without_metrics_it_doubles_until_the_first_refusal_and_then_creeps() -> None:
    gate = Gate(Bounds(start=8, most=1000))
    assert [change.limit for change in answer(gate, 8 + 16, 0.0)] == [16, 32]
    refused = gate.hear(Failure.RATE_LIMITED, 32, 1.0)
    assert refused is not None and refused.limit == 25 and "429" in refused.reason
    assert gate.hear(Failure.RATE_LIMITED, 32, 2.0) is None, "a burst of refusals is one"
    assert answer(gate, 100, QUIET / 2) == []
    assert [change.limit for change in answer(gate, 1, QUIET + 2)] == [26]


def test_failures_in_a_row_make_it_smaller_and_single_ones_do_not() -> None:
    gate = Gate(Bounds(start=100))
    for number in range(10):
        assert gate.hear(Failure.SERVER, 100, float(number)) is None
        gate.hear(None, 50, float(number))
    changes = [gate.hear(Failure.TIMEOUT, 100, 20.0) for _ in range(3)]
    assert changes[2] is not None and changes[2].limit == 80


def test_it_never_leaves_its_bounds() -> None:
    gate = Gate(Bounds(start=2, most=3))
    answer(gate, 100, 0.0)
    assert gate.limit == 3
    for number in range(10):
        gate.hear(Failure.RATE_LIMITED, 3, number * 2 * QUIET)
    assert gate.limit == 1


def test_the_metrics_of_both_engines_are_understood_and_rubbish_is_not() -> None:
    vllm = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0",model_name="q"} 3.0\nvllm:num_requests_running{engine="1"} 4.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.75\n'
        'vllm:num_requests_waiting{engine="0"} 2\nvllm:num_preemptions_total{engine="0"} 5.0\n'
    )
    assert load.read([vllm]) == Load(0.75, 7, 2, 5)
    sglang = "sglang:token_usage{} 0.5\nsglang:num_running_reqs{} 9\nsglang:num_queue_reqs{} 1\n"
    assert load.read([sglang, vllm]) == Load(0.75, 16, 3, 5)
    assert load.read(["<html>", "", "python_gc_objects_collected_total 12\nvllm:kv_cache_usage_perc NaN\n"]) is None


def test_a_smaller_number_takes_effect_as_those_inside_leave() -> None:
    async def main() -> None:
        admission = Admission(2)
        await admission.enter()
        await admission.enter()
        admission.resize(1)
        waiting = asyncio.create_task(admission.enter())
        admission.leave()
        await asyncio.sleep(0)
        assert not waiting.done() and admission.inside == 1
        admission.leave()
        await waiting
        more = [asyncio.create_task(admission.enter()) for _ in range(3)]
        admission.resize(4)
        await asyncio.gather(*more)
        assert admission.inside == 4

    asyncio.run(main())
