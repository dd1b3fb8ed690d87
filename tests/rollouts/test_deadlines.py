"""Whatever takes too long is ended at its own deadline, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.rollouts.deadlines import Deadlines


async def work(deadlines: Deadlines, seconds: float) -> str:
    timer = asyncio.timeout(None)
    deadlines.begin(timer)
    try:
        async with timer:
            await asyncio.sleep(seconds)
        return "done"
    except TimeoutError:
        return "late"
    finally:
        deadlines.end(timer)


def test_only_what_takes_too_long_is_ended() -> None:
    async def main() -> list[str]:
        deadlines = Deadlines(0.2)
        tasks = []
        for number in range(100):
            tasks.append(asyncio.create_task(work(deadlines, 60 if number % 3 == 0 else 0)))
            await asyncio.sleep(0.001)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == ["late" if number % 3 == 0 else "done" for number in range(100)]


def test_one_that_begins_anew_has_all_of_its_time_again() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        deadlines, timer = Deadlines(0.3), asyncio.timeout(None)
        deadlines.begin(timer)
        with pytest.raises(TimeoutError):
            async with timer:
                await asyncio.sleep(0.2)
                deadlines.begin(timer)
                began = loop.time()
                await asyncio.sleep(60)
        assert not deadlines.covers(timer)
        return loop.time() - began

    assert 0.29 < asyncio.run(main()) < 30


def test_after_all_have_ended_nothing_is_left_in_the_loop() -> None:
    async def main() -> None:
        deadlines = Deadlines(3600)
        await asyncio.gather(*(work(deadlines, 0) for _ in range(10)))
        assert await asyncio.wait_for(work(deadlines, 0), 5) == "done"
        assert deadlines.is_quiet

    asyncio.run(main())
