"""Exactly N rollouts of each prompt: what is owed is played through an engine in the same job, whatever died before.

Rows go to a collection that outlives every attempt, and are owed by (prompt, repeat). What failed is tried again, and
given up after some failures; what is complete, or lacks no more than is accepted, is published.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from holdfast.core import kind
from holdfast.core.errors import ConfigError, HoldfastError, Stopped, UserError
from holdfast.core.kind import Kind, Params
from holdfast.core.service import Service
from holdfast.rollouts import columns_keep
from holdfast.rollouts.gate import MOST
from holdfast.stages import asking
from holdfast.stages.asking import AskingParams
from holdfast.stages.problems import Problems
from holdfast.stages.rollout_files import VIEWS

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.core.stage import Ref
    from holdfast.rollouts.asking import Engines
    from holdfast.rollouts.collection import Collection
    from holdfast.rollouts.row_index import Index
    from holdfast.stages.rollout_files import Written


class RolloutParams(AskingParams):
    """What is played, how often, within which bounds, by which engine."""

    prompts: str = kind.placed("")
    """The file of the prompt set, for an environment that has no prompts of its own."""
    prompt_set: str = ""
    """Filled in: the digest of that file when the work was planned."""
    turns: int | None = Field(None, ge=1)
    """Messages of the model in one rollout; None takes the environment's own limit, here and below."""
    tool_calls: int | None = Field(None, ge=1)
    rollout_tokens: int | None = Field(None, ge=1)
    """Tokens that the model generates in one rollout."""
    bad_turns: int = Field(3, ge=1)
    """Messages in a row whose tool calls cannot be carried out, after which a rollout ends."""
    step_deadline: float = kind.placed(60.0, gt=0)
    """Seconds for one step of the environment, one turn, one rollout."""
    turn_deadline: float = kind.placed(3600.0, gt=0)
    rollout_deadline: float = kind.placed(14400.0, gt=0)
    follows_engine: bool = kind.placed(False)
    """Let the number in flight follow the engine, from `in_flight` to `most_in_flight`."""
    most_in_flight: int = kind.placed(MOST, ge=1)
    attempts: int = kind.placed(3, ge=1)
    """Failures after which a rollout is given up."""
    durability: Literal["group", "fsync", "flush"] = kind.placed("group")
    port: int = kind.placed(0, ge=0, le=65535)
    """Of the engine; 0 takes a free one."""
    sliced: bool = kind.placed(False)
    """Others collect, each a slice, and this stage only publishes what they have collected."""

    def sent_with_chats(self) -> Mapping[str, Any]:
        return self.chat_template_kwargs


class Rollouts(Kind):
    """Safe to run twice: rows of both attempts count, and the first to finish publishes."""

    name = "rollouts"
    has_inner = False
    optional_inputs = ("model",)
    loose: ClassVar[tuple[str, ...]] = VIEWS
    Params: ClassVar[type[Params]] = RolloutParams

    def fill(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return Problems(self.parse(params)).filled(params)

    def home(self, name: str) -> str:
        return f"rollouts/{name}"

    def check_plan(self, params: Mapping[str, Any], inputs: Mapping[str, Ref]) -> None:
        parsed = self.parse(params)
        if parsed.chat_template:
            raise ConfigError(
                "rollouts are asked as chats, and a chat template is given", "the engine applies the model's own"
            )
        problems = Problems(parsed)
        if problems.episodes.has_tools:
            asking.engine_of(parsed).check_tools()
        asking.check_plan(parsed, inputs, problems.most_tokens, "a collection of rollouts")

    def services(self, params: RolloutParams, inputs: Mapping[str, Path]) -> list[Service]:
        if params.sliced:
            return []
        problems = Problems(params)
        asking.engine_of(params).check_chats(asking.model_of(params, inputs))
        engine = asking.engine_service(params, inputs, problems.longest, problems.most_tokens)
        ours = problems.episodes.service()
        found = [replace(engine, port=params.port)] if engine else []
        return [*found, ours] if ours else found

    def run(self, params: RolloutParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.stages import rollout_files

        problems = Problems(params)
        written = _collect(params, problems, inputs, out)
        rollout_files.publish(params, problems, written, out)

    def published(self, params: RolloutParams, home: Path) -> None:
        from holdfast.stages import rollout_files

        rollout_files.refresh_analysis(home)


def _collect(params: RolloutParams, problems: Problems, inputs: Mapping[str, Path], out: Output) -> Written:
    """Have all rows, and write them into the home that is built. The index is gone when this returns."""
    from holdfast.stages import rollout_files

    collection, engines = prepare(params, problems, inputs, out)
    with contextlib.closing(collection.index(problems.ids(), params.repeats)) as index:
        if not params.sliced:
            fill(params, problems, index, collection, engines, out)
        refuse_gaps(index, params, collection)
        return rollout_files.write_rows(index, collection.parts, out)


def prepare(
    params: RolloutParams, problems: Problems, inputs: Mapping[str, Path], out: Output
) -> tuple[Collection, Engines | None]:
    """Where the rows go, and who is asked (None where others collect).

    Raises:
        UserError: the prompts are not those that were planned.
    """
    from holdfast.rollouts.collection import Collection

    problems.check_unchanged()
    key = problems.collection_key(asking.fingerprint_of(params, out.input_digests))
    collection = Collection(out.parts(key), out.attempt, out.token, params.durability)
    if params.sliced:
        return collection, None
    model = asking.model_of(params, inputs)
    return collection, asking.engines_of(params, key, model, problems.most_tokens, out, _bounds(params))


def fill(
    params: RolloutParams,
    problems: Problems,
    index: Index,
    collection: Collection,
    engines: Engines | None,
    out: Output,
) -> None:
    """Play what is owed, until nothing is but what is given up; `index` has all that is there then.

    Raises:
        Stopped: the word to stop came.
        HoldfastError: the engine was given up; what was collected is there.
        UserError: the prompts are not those of the rows that are there.
    """
    problems.refuse_changed(index)
    if engines is None or not _left(index, params):
        return
    with columns_keep.keeping(collection.parts):
        asyncio.run(_play(params, problems, index, collection, engines, out))


async def _play(
    params: RolloutParams,
    problems: Problems,
    index: Index,
    collection: Collection,
    engines: Engines,
    out: Output,
) -> None:
    from holdfast.rollouts.asking import Attempt
    from holdfast.rollouts.counts import Counts

    attempt = Attempt(engines, out, "rollout")
    counts = Counts(index.wanted, index.done)
    make = problems.work(attempt.seeds(), index.response)
    service = problems.episodes.service()
    async with problems.episodes.opened(out.endpoint(service.name) if service else None):
        while _left(index, params):
            trouble = await attempt.run(index.owed(params.attempts), collection, counts, make)
            index.update()
            if trouble:
                raise HoldfastError(f"given up at rollout {counts.done} of {counts.wanted}: {trouble}")
            if out.stop_requested():
                raise Stopped(f"stopped at rollout {counts.done} of {counts.wanted}")


def _left(index: Index, params: RolloutParams) -> int:
    return index.wanted - index.done - index.given_up(params.attempts)


def _bounds(params: RolloutParams) -> Any:
    from holdfast.rollouts.gate import Bounds

    return Bounds(params.in_flight, params.most_in_flight) if params.follows_engine else None


def refuse_gaps(index: Index, params: RolloutParams, collection: Collection) -> None:
    """
    Raises:
        UserError: more rollouts were given up than may be missing.
        HoldfastError: some are still owed.
    """
    missing = index.wanted - index.done
    if left := missing - index.given_up(params.attempts):
        raise HoldfastError(f"{left:,} of {index.wanted:,} rollouts are still owed")
    if missing > params.accept_missing:
        raise UserError(
            f"{missing:,} of {index.wanted:,} rollouts were given up after {params.attempts} failures each: "
            + _reasons(index, collection),
            f"--accept-missing {missing} publishes without them; `attempts` in the config gives them more tries",
        )


def _reasons(index: Index, collection: Collection) -> str:
    from holdfast.rollouts import failures

    counts, first = failures.summarise(failures.read(collection.parts, index.ids, index.repeats), index)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"{told}; the first: {first}"
