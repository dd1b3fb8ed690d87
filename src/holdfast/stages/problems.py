"""What is played: an environment, its prompts, and the bounds of a rollout, as a stage's params say them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments.episodes import load_episodes
from holdfast.environments.prompt_set import PromptSet, digest_of_row
from holdfast.stages import asking

if TYPE_CHECKING:
    from holdfast.environments.prompt_set import Prompts
    from holdfast.rollouts.asking import MakeWork
    from holdfast.rollouts.collection import Row, Sample
    from holdfast.rollouts.multi_turn import Bounds
    from holdfast.rollouts.row_index import Index
    from holdfast.stages.rollouts import RolloutParams

MOST_TOKENS = 4096
"""Of one message of the model, where neither the params nor the environment say."""
LOOKED_AT = 1000
"""Prompts whose length is looked at."""


class Problems:
    """Nothing is read before it is needed."""

    def __init__(self, params: RolloutParams) -> None:
        self.params = params
        self.episodes = load_episodes(params.environment, params.settings)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompt set of the params, or the environment's own.

        Raises:
            UserError: there is none, or both.
        """
        own, name = self.episodes.prompts(), self.params.environment
        if own is not None:
            if self.params.prompts:
                raise ConfigError(
                    f"environment {name} has prompts of its own, and a prompt set is given: {self.params.prompts}",
                    "leave `prompts` out",
                )
            return own
        if not self.params.prompts:
            raise ConfigError(f"environment {name} has no prompts of its own", "add `prompts: FILE.jsonl`")
        return PromptSet(Path(self.params.prompts))

    def ids(self) -> list[str]:
        """Of all prompts, in order.

        Raises:
            UserError: there are none.
        """
        found = list(self.prompts.ids)
        if not found:
            raise UserError(f"environment {self.params.environment} has no prompts", "look at its settings")
        return found

    @property
    def most_tokens(self) -> int:
        """The limit of one message where the params have none."""
        own = getattr(self.episodes, "environment", None)
        return int(own.max_tokens) if own is not None else MOST_TOKENS

    @property
    def bounds(self) -> Bounds:
        """Of one rollout."""
        from holdfast.rollouts.multi_turn import Bounds

        params = self.params
        return Bounds.of(
            self.episodes,
            turns=params.turns,
            tool_calls=params.tool_calls,
            tokens=params.rollout_tokens,
            bad_turns=params.bad_turns,
            step=params.step_deadline,
            turn=params.turn_deadline,
            rollout=params.rollout_deadline,
        )

    def filled(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params with the version of the environment, what planning finds out, and which prompts there are."""
        resolved = self.episodes.resolved()
        filled = {**params, "environment_version": int(self.episodes.identity().get("version", 1))}
        if resolved != self.episodes.settings.model_dump(mode="json"):
            filled["settings"] = {name: value for name, value in resolved.items() if value is not None}
        if isinstance(self.prompts, PromptSet):
            filled["prompt_set"] = self.prompts.content
        return filled

    def collection_key(self, fingerprint: str) -> str:
        """The rows' collection: a rollout ends otherwise with other bounds, the prompts tell for themselves."""
        bounds = self.bounds
        ends = {name: getattr(bounds, name) for name in ("turns", "tool_calls", "tokens", "bad_turns")}
        source = {**self.episodes.identity(), "bounds": ends}
        return asking.collection_key(self.params, source, fingerprint, self.most_tokens)

    def longest(self) -> int:
        """About how much a rollout holds beside one message of the model, in characters."""
        rows = (self.prompts.row(each) for each in islice(self.prompts.ids, LOOKED_AT))
        longest = max((len(json.dumps(dict(row))) for row in rows), default=0)
        most = self.params.max_tokens or self.most_tokens
        return longest + (self.bounds.turns - 1) * most

    def check_unchanged(self) -> None:
        """
        Raises:
            UserError: the prompt set is not the one that was planned.
        """
        if isinstance(self.prompts, PromptSet) and self.params.prompt_set not in ("", self.prompts.content):
            raise UserError(
                f"{self.params.prompts} changed since the work was planned: digest {self.prompts.content[:12]}, "
                f"planned {self.params.prompt_set[:12]}",
                "type the command again: what is owed then is counted anew",
            )

    def refuse_changed(self, index: Index) -> None:
        """
        Raises:
            UserError: rollouts are there of another prompt with the same id.
        """
        found = index.first_rows()
        changed = [row["id"] for row in found if digest_of_row(row["prompt"]) != self.prompts.digest(row["id"])]
        if changed:
            raise UserError(
                f"{len(changed):,} prompts are not those of the rollouts that are there, such as {changed[:3]}",
                "give a changed prompt another id, or start beside them with --new",
            )

    def work(self, seeds: Callable[[Sample], int | None], stored: Callable[[Sample], Row]) -> MakeWork:
        """The work of each engine; only while the episodes are `opened`."""
        from holdfast.rollouts.multi_turn import MultiTurn

        return lambda client, calls: MultiTurn(client, calls, self.episodes, self.prompts, seeds, stored, self.bounds)
