"""A single-turn environment as episodes: one prompt, one message, one grade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from holdfast.environments import Environment, Grade
from holdfast.environments.episodes import Episode, EpisodeError, Episodes, Message, Start, Step, user
from holdfast.environments.prompt_set import OwnPrompts, Prompts, Row
from holdfast.verifiers.pool import ScorerError, ScorerTimeout, VerifierPool

WORKERS = 2


class OneTurn(Episodes):
    """Its prompts are the environment's. Where that has a verifier, processes grade that can be killed."""

    turns = 1

    def __init__(self, environment: Environment, workers: int = WORKERS) -> None:
        super().__init__(environment.settings)
        self.environment = environment
        self._workers = workers
        self._pool: VerifierPool | None = None

    def identity(self) -> dict[str, Any]:
        return self.environment.identity()

    def choice(self) -> dict[str, Any]:
        return self.environment.choice()

    def resolved(self) -> dict[str, Any]:
        return self.environment.resolved()

    def prompts(self) -> Prompts:
        return self._prompts

    @cached_property
    def _prompts(self) -> Prompts:
        asked = {each.id: list(each.messages) or [user(each.text)] for each in self.environment.prompts()}
        return OwnPrompts({name: {"id": name, "messages": messages} for name, messages in asked.items()})

    @asynccontextmanager
    async def opened(self, url: str | None = None) -> AsyncIterator[None]:
        if self.environment.verifier is None:
            yield
            return
        async with VerifierPool(self.environment.verifier, self._workers) as pool:
            self._pool = pool
            yield

    def new(self) -> Episode:
        if self._pool is None:
            return _InProcess(self.environment)
        return _InPool(self.environment, self._pool)


class _Problem(Episode):
    def __init__(self, environment: Environment) -> None:
        super().__init__(environment.settings)
        self._environment = environment

    def start(self, seed: int, row: Row) -> Start:
        self._id = str(row["id"])
        return Start(row["messages"])


class _InProcess(_Problem):
    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.is_blocking = environment.is_blocking

    def step(self, message: Message) -> Step:
        return _judged(self._environment.grade(self._id, message.get("content") or ""))


class _InPool(_Problem):
    def __init__(self, environment: Environment, pool: VerifierPool) -> None:
        super().__init__(environment)
        self._pool = pool

    async def step(self, message: Message) -> Step:
        try:
            return _judged(await self._pool.grade(message.get("content") or "", self._environment.solution(self._id)))
        except ScorerTimeout as error:
            raise EpisodeError("scorer_timeout", str(error)) from error
        except ScorerError as error:
            raise EpisodeError("scorer_error", str(error)) from error


def _judged(grade: Grade) -> Step:
    found = {"answer": grade.answer} if grade.answer is not None else {}
    return Step([], grade.reward, terminated=True, info={"success": grade.reward >= 1.0, **found})
