"""How responses are graded: by the environment itself, or where that may hang by processes that can be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.environments import Environment, Grade
    from holdfast.rollouts.single_turn import Grading


@asynccontextmanager
async def open_grading(environment: Environment, workers: int) -> AsyncIterator[Grading]:
    """The `Grading` of an environment; `workers` processes where it needs any.

    Raises:
        UserError: its verifier needs a library that is not there.
    """
    from holdfast.rollouts.single_turn import NotGraded
    from holdfast.verifiers.pool import ScorerError, ScorerTimeout, VerifierPool

    async def by_environment(prompt_id: str, response: str) -> Grade:
        return environment.grade(prompt_id, response)

    if environment.verifier is None:
        yield by_environment
        return
    async with VerifierPool(environment.verifier, workers) as pool:

        async def by_pool(prompt_id: str, response: str) -> Grade:
            try:
                return await pool.grade(response, environment.solution(prompt_id))
            except ScorerTimeout as error:
                raise NotGraded("scorer_timeout", str(error)) from error
            except ScorerError as error:
                raise NotGraded("scorer_error", str(error)) from error

        yield by_pool
