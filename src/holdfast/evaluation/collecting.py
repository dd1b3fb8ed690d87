"""One attempt to have every response that an evaluation owes: asked, graded, durable."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError, Stopped
from holdfast.evaluation.gradings import open_grading
from holdfast.evaluation.templates import ChatTemplate
from holdfast.rollouts.asking import Attempt, Engines
from holdfast.rollouts.counts import Counts
from holdfast.rollouts.single_turn import SingleTurn

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.environments import Environment, Prompt
    from holdfast.rollouts.collection import Collection
    from holdfast.rollouts.row_index import Index


@dataclass(frozen=True)
class Asking:
    """What is asked of whom."""

    environment: Environment
    template: ChatTemplate
    verifier_workers: int
    engines: Engines


class Collecting:
    """The loop of one attempt; `accepted` failures are no reason to fail."""

    def __init__(self, asking: Asking, out: Output, accepted: int = 0) -> None:
        self.asking = asking
        self.accepted = accepted
        self._attempt = Attempt(asking.engines, out)

    async def run(self, collection: Collection, index: Index) -> Counts:
        """Ask for what is owed until nothing is; returns how it went.

        Raises:
            Stopped: the word to stop came.
            HoldfastError: more responses than are accepted could not be had; the others are recorded.
        """
        counts = Counts(index.wanted, index.done)
        seeds = self._attempt.seeds()
        async with open_grading(self.asking.environment, self.asking.verifier_workers) as grade:
            trouble = await self._attempt.run(
                index.owed(),
                collection,
                counts,
                lambda client, calls: SingleTurn(client, calls, self._prompts, grade, seeds, index.response),
            )
        self._check(counts, str(trouble or ""))
        return counts

    @cached_property
    def _prompts(self) -> dict[str, Prompt]:
        put = self.asking.template.open(self.asking.engines.model)
        return {prompt.id: put(prompt) for prompt in self.asking.environment.prompts()}

    def _check(self, counts: Counts, trouble: str) -> None:
        """
        Raises:
            Stopped: the word to stop came.
            HoldfastError: more responses than are accepted could not be had.
        """
        failed = sum(counts.failed.values())
        if failed > self.accepted or (failed and trouble):
            gave_up = f"; given up: {trouble}" if trouble else ""
            says = f"{failed} of {counts.wanted} responses failed, the first: {counts.first_failure}"
            raise HoldfastError(says + gave_up)
        if trouble:
            raise HoldfastError(f"given up at response {counts.done} of {counts.wanted}: {trouble}")
        if counts.done + failed < counts.wanted:
            raise Stopped(f"stopped at response {counts.done} of {counts.wanted}")
