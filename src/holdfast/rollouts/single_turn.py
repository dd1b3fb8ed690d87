"""A rollout of one turn: one prompt, one response, one grade."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal

from holdfast.engines.completions import Completion, Failure
from holdfast.rollouts.calls import Calls
from holdfast.rollouts.collect import Failed, Leave
from holdfast.rollouts.collection import Owed, Row, Sample

if TYPE_CHECKING:
    from holdfast.engines.client import Client
    from holdfast.environments import Grade, Prompt

Grading = Callable[[str, str], "Awaitable[Grade]"]
"""(prompt id, response) to a grade; raises `NotGraded`."""


class NotGraded(Exception):
    """The verifier came to no judgement: `kind` is `scorer_timeout` or `scorer_error`. Never a reward of zero."""

    def __init__(self, kind: Literal["scorer_timeout", "scorer_error"], message: str) -> None:
        super().__init__(message)
        self.kind = Failure(kind)


class SingleTurn:
    """The `work` of an evaluation. `stored` reads back a response that was paid for and could not be graded: it is
    graded again, and the engine is not asked.
    """

    def __init__(
        self,
        client: Client,
        calls: Calls,
        prompts: Mapping[str, Prompt],
        grade: Grading,
        seed: Callable[[Sample], int | None],
        stored: Callable[[Sample], Row],
    ) -> None:
        self._client = client
        self._calls = calls
        self._prompts = prompts
        self._grade = grade
        self._seed = seed
        self._stored = stored

    async def __call__(self, owed: Owed, leave: Leave) -> Row:
        """The row of one sample.

        Raises:
            EngineError: no response.
            Failed: a response without a grade; its row holds the response.
        """
        row = self._again(owed.sample) if owed.has_response else await self._respond(owed.sample)
        leave()
        try:
            grade = await self._grade(owed.sample.id, row["response"])
        except NotGraded as error:
            raise Failed(error.kind, str(error), row) from error
        except asyncio.CancelledError as error:  # told to stop: the response is kept
            raise Failed(Failure.SCORER_TIMEOUT, "stopped while it was graded", row) from error
        if not math.isfinite(grade.reward):
            raise Failed(Failure.SCORER_ERROR, f"a reward of {grade.reward}", row)
        graded = {"reward": grade.reward, "success": grade.reward >= 1.0, "answer": grade.answer}
        return {"prompt": row["prompt"], "response": row["response"], **graded, **row}

    def _again(self, sample: Sample) -> Row:
        row = self._stored(sample)
        return {name: value for name, value in row.items() if name not in ("error", "schema", "attempt")}

    async def _respond(self, sample: Sample) -> Row:
        prompt = self._prompts[sample.id]
        seed = self._seed(sample)

        async def ask() -> Completion:
            if prompt.messages:
                return await self._client.chat(prompt.messages, seed)
            return await self._client.complete(prompt.text, seed)

        completion, tries = await self._calls.make(ask)
        return {
            "prompt": prompt.text,
            "response": completion.text,
            "num_steps": 1,
            "id": sample.id,
            "repeat": sample.repeat,
            "seed": seed if self._client.keeps_seeds else None,
            "usage": dict(completion.usage),
            "finish": completion.finish,
            "tries": tries,
        }


def derive_seed(salt: str, sample: Sample) -> int:
    """The seed of a response, 31 bits: another for each repeat and each prompt, the same whenever it is asked again."""
    digest = hashlib.sha256(f"{salt}\0{sample.id}\0{sample.repeat}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
