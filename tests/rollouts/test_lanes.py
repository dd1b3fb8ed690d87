"""Engines share the work by what each has in flight, and a rollout stays with the engine that began it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from holdfast.engines.completions import EngineError, Failure
from holdfast.rollouts.breaker import Breaker
from holdfast.rollouts.calls import Calls, Limits
from holdfast.rollouts.collection import Owed, Row, Sample
from holdfast.rollouts.lanes import Lane, Lanes


async def always() -> bool:
    return True


def lane(name: str, seconds: float, asked: Counter[str]) -> Lane:
    async def work(owed: Owed, leave: Any) -> Row:
        asked[name] += 1
        await asyncio.sleep(seconds)
        return {"id": owed.sample.id, "engine": name}

    return Lane(work, Calls(Limits(), Breaker(always, 1.0)))


def test_slow_engine_gets_less() -> None:
    asked: Counter[str] = Counter()

    async def collect() -> None:
        lanes = Lanes([lane("slow", 0.2, asked), lane("fast", 0.01, asked)])
        gate = asyncio.Semaphore(4)

        async def one(number: int) -> None:
            async with gate:
                await lanes(Owed(Sample(str(number), 0), False, 0), lambda: None)

        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(collect())
    assert asked["slow"] + asked["fast"] == 40
    assert asked["fast"] > 3 * asked["slow"] > 0


def test_engine_that_is_given_up_ends_the_attempt() -> None:
    async def look() -> tuple[object, object]:
        lanes = Lanes([lane("one", 0, Counter()), broken := lane("other", 0, Counter())])
        before = lanes.trouble
        breaker: Breaker = broken.calls._breaker
        breaker.give_up(EngineError(Failure.ENGINE_DOWN, "it is gone"))
        return before, lanes.trouble

    before, after = asyncio.run(look())
    assert before is None and str(after) == "it is gone"
