"""A single-turn environment as episodes: one prompt, one message, one grade."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from holdfast.environments import Environment, Grade
from holdfast.environments.episodes import Episode, EpisodeError, Episodes, Message, Start, Step, user
from holdfast.environments.prompt_set import OwnPrompts, Prompts, Row
from holdfast.verifiers.pool import ScorerError, ScorerTimeout, VerifierPool

Grading = Callable[[str, str], Awaitable[Grade]]
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
        return _Problem(self.settings, self._grade)

    async def _grade(self, prompt_id: str, response: str) -> Grade:
        if self._pool is None:
            return self.environment.grade(prompt_id, response)
        try:
            return await self._pool.grade(response, self.environment.solution(prompt_id))
        except ScorerTimeout as error:
            raise EpisodeError("scorer_timeout", str(error)) from error
        except ScorerError as error:
            raise EpisodeError("scorer_error", str(error)) from error


class _Problem(Episode):
    def __init__(self, settings: Any, grade: Grading) -> None:
        super().__init__(settings)
        self._grade = grade

    def start(self, seed: int, row: Row) -> Start:
        self._id = str(row["id"])
        return Start(row["messages"])

    async def step(self, message: Message) -> Step:
        grade = await self._grade(self._id, message.get("content") or "")
        info = {"success": grade.reward >= 1.0, **({"answer": grade.answer} if grade.answer is not None else {})}
        return Step([], grade.reward, terminated=True, info=info)
