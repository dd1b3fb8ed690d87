"""Code of others may raise anything, block, or leave; that is one rollout's affair and never ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.core.errors import UserError
from holdfast.environments.episodes import Episode, EpisodeError, Message, Start, Step
from holdfast.rollouts import boundary


class Odd(Exception):
    """Derived from nothing that anybody would expect."""


class Own(Episode):
    """Does what it is told."""

    def __init__(self, does: Callable[[], Any], is_blocking: bool = False) -> None:
        super().__init__(None)
        self.does = does
        self.is_blocking = is_blocking

    def start(self, seed: int, row: Any) -> Start:
        raise NotImplementedError

    def step(self, message: Message) -> Step:
        found: Step = self.does()
        return found


def step(does: Callable[[], Any], is_blocking: bool = False, seconds: float = 5.0) -> Any:
    return asyncio.run(boundary.call(Own(does, is_blocking), "step", seconds, {}))


def fail(error: BaseException) -> Callable[[], Any]:
    def does() -> None:
        raise error

    return does


@pytest.mark.parametrize("is_blocking", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        StopIteration(),
        SystemExit(3),
        MemoryError(),
        RecursionError(),
        type("Odd", (Exception,), {})("y"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_it_raises_is_an_error_of_the_environment(error: BaseException, is_blocking: bool) -> None:
    with pytest.raises(EpisodeError, match=f"`step`: .*{type(error).__name__}") as found:
        step(fail(error), is_blocking)
    assert found.value.kind == "env_error"


@pytest.mark.parametrize("is_blocking", [False, True])
def test_what_it_raises_on_purpose_stays_what_it_is(is_blocking: bool) -> None:
    with pytest.raises(UserError, match="no puzzle"):
        step(fail(UserError("no puzzle")), is_blocking)
    with pytest.raises(EpisodeError, match="the judge") as found:
        step(fail(EpisodeError("scorer_timeout", "the judge")), is_blocking)
    assert found.value.kind == "scorer_timeout"


def test_what_blocks_is_not_run_where_the_loop_is() -> None:
    assert step(threading.get_ident) == threading.get_ident() != step(threading.get_ident, True)


def test_threads_that_hang_take_no_more_places_than_there_are() -> None:
    let_go = threading.Event()

    async def many() -> list[Any]:
        hanging = [boundary.call(Own(let_go.wait, True), "step", 0.2, {}) for _ in range(2 * boundary.THREADS)]
        failed = await asyncio.gather(*hanging, return_exceptions=True)
        assert sum(thread.name == "episode" for thread in threading.enumerate()) <= boundary.THREADS
        return failed

    try:
        assert {error.kind for error in asyncio.run(many())} == {"env_timeout"}
    finally:
        let_go.set()


def test_an_error_says_where_it_was_made() -> None:
    with pytest.raises(EpisodeError, match=r"ZeroDivisionError: .* by zero \(test_boundary.py:\d+\)"):
        step(lambda: 1 // 0)
