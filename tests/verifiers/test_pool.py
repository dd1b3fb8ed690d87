"""One response that hangs or crashes a parser must cost that one grading, and never be counted as wrong."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from holdfast.core.errors import UserError
from holdfast.verifiers import Grade
from holdfast.verifiers.pool import ScorerError, ScorerTimeout, VerifierPool

BEHAVE = "tests.verifiers.misbehaving:behave"
Result = TypeVar("Result")


def within(
    use: Callable[[VerifierPool], Awaitable[Result]],
    name: str = BEHAVE,
    workers: int = 1,
    deadline: float = 20.0,
    **options: int,
) -> Result:
    """What `use` gives in an open pool; afterwards none of its processes may be left."""
    before = children()

    async def run() -> Result:
        async with VerifierPool(name, workers, deadline, **options) as pool:
            return await use(pool)

    found = asyncio.run(run())
    assert children() == before
    return found


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


async def grades(pool: VerifierPool, *responses: str) -> list[Grade | BaseException]:
    return await asyncio.gather(*(pool.grade(each, "42") for each in responses), return_exceptions=True)


async def pid(pool: VerifierPool) -> str | None:
    return (await pool.grade("pid", None)).answer


@pytest.mark.parametrize("response", ["power", "regex"])
def test_a_parser_that_hangs_in_c_costs_its_own_grading_and_no_other(response: str) -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        return await grades(pool, "42", response, "41", "42")

    first, hung, *rest = within(use, deadline=1.5)
    assert isinstance(hung, ScorerTimeout) and hung.kind == "scorer_timeout"
    assert [first, *rest] == [Grade(1.0), Grade(0.0), Grade(1.0)]


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ("exit", "ended with exit code 3"),
        ("kill", "ended by signal SIGKILL"),
        ("eat", "MemoryError"),
        ("raise", "LookupError: the solution has no such part"),
        ("text", "expected a number"),
        ("nan", "returned nan"),
    ],
)
def test_a_grading_that_failed_is_an_error_with_its_reason_and_no_reward(response: str, says: str) -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        return [*await grades(pool, response), *await grades(pool, "42")]

    failed, after = within(use, memory=512 << 20)
    assert isinstance(failed, ScorerError) and failed.kind == "scorer_error"
    assert says in str(failed)
    assert after == Grade(1.0)


def test_what_a_verifier_prints_is_never_taken_for_a_grade() -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        return await grades(pool, "print", "41", "input")

    assert within(use) == [Grade(1.0), Grade(0.0), Grade(0.0, "''")]


def test_workers_are_replaced_after_so_many_gradings() -> None:
    async def use(pool: VerifierPool) -> list[str | None]:
        return [await pid(pool) for _ in range(5)]

    first, again, second, third, last = within(use, recycle=2)
    assert first == again != second == third != last


def test_a_caller_that_gives_up_does_not_leave_its_answer_to_the_next() -> None:
    async def use(pool: VerifierPool) -> Grade:
        task = asyncio.create_task(pool.grade("regex", "42"))
        while not pool._slots[0].worker or not pool._slots[0].worker.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await pool.grade("42", "42")

    assert within(use) == Grade(1.0)


def test_what_a_killed_verifier_started_is_ended_with_it(tmp_path: Path) -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        return await grades(pool, f"child {tmp_path / 'pid'}")

    (failed,) = within(use, deadline=2.0)
    assert isinstance(failed, ScorerTimeout)
    child = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "a grandchild is left"
        time.sleep(0.02)


def test_many_gradings_at_once_share_few_processes_and_each_gets_its_own_answer() -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        return await grades(pool, *(str(40 + number % 4) for number in range(200)))

    found = within(use, workers=3)
    assert [grade.reward for grade in found if isinstance(grade, Grade)] == [0.0, 0.0, 1.0, 0.0] * 50


def test_a_worker_whose_pool_was_killed_ends_itself_although_it_hangs() -> None:
    async def use() -> float:
        process = await asyncio.create_subprocess_exec(
            *("python", "-P", "-m", "holdfast.verifiers.worker", BEHAVE, "--deadline", "0.2", "--memory", "1000000000"),
            executable=sys.executable,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdin and process.stdout
        await process.stdout.readline()
        process.stdin.write(b'{"id": 1, "response": "power", "solution": null}\n')
        await process.stdin.drain()
        return await asyncio.wait_for(process.wait(), 60)

    assert asyncio.run(use()) == -14


def test_an_answer_of_any_length_is_a_row() -> None:
    async def use(pool: VerifierPool) -> str | None:
        return (await pool.grade("nice", None)).answer

    answer = within(use)
    assert answer and len(answer) < 400


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mtah", "did you mean `math`?"),
        ("tests.verifiers.misbehaving:behvae", "did you mean `tests.verifiers.misbehaving:behave`?"),
        ("tests.verifiers.misbehaving:number", "has no function `number`"),
        ("no.such:thing", "PYTHONPATH"),
    ],
)
def test_a_misspelt_verifier_is_told_before_anything_is_graded(name: str, says: str) -> None:
    async def use(pool: VerifierPool) -> None:
        raise AssertionError("it opened")

    with pytest.raises(UserError) as error:
        within(use, name)
    assert says in f"{error.value} {error.value.hint}"


def test_math_hangs_only_until_its_deadline() -> None:
    async def use(pool: VerifierPool) -> list[Grade | BaseException]:
        tower = "\\boxed{9^{9^{9^{9}}}+1}"
        return [*await grades(pool, "\\boxed{42}", tower, "the answer is 42")]

    right, hung, after = within(use, "math", deadline=5.0)
    assert (right, after) == (Grade(1.0, "42"), Grade(1.0, "42"))
    assert isinstance(hung, ScorerTimeout)
