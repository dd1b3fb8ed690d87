"""Rewards anew for rollouts that were published: by another verifier, or an environment that was corrected. Every
recorded message is given to the environment again, and no engine is asked. The old rewards stay where they are.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from holdfast.core import kind
from holdfast.core.errors import UserError
from holdfast.core.kind import Kind, Params
from holdfast.core.service import Service
from holdfast.environments.episodes import Episodes, load_episodes
from holdfast.evaluation import published
from holdfast.stages import rollout_files
from holdfast.stages.rollout_files import FAILURES, ROLLOUTS, VIEWS

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.rollouts.collection import Row

AT_ONCE = 64
"""Rollouts that are judged at a time."""


class RescoreParams(Params):
    """Who judges."""

    environment: str
    settings: dict[str, Any] = Field(default_factory=dict)
    environment_version: int = 1
    """Filled in from the environment."""
    accept_missing: int = kind.placed(0, ge=0)
    """So many may come to no judgement."""


class Rescore(Kind):
    name = "rescore"
    has_inner = False
    inputs = ("rollouts",)
    loose: ClassVar[tuple[str, ...]] = VIEWS
    Params = RescoreParams

    def home(self, name: str) -> str:
        return f"rollouts/{name}"

    def fill(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        episodes = load_episodes(params["environment"], params.get("settings"))
        resolved = {name: value for name, value in episodes.resolved().items() if value is not None}
        version = int(episodes.identity().get("version", 1))
        return {**params, "environment_version": version, "settings": resolved}

    def services(self, params: RescoreParams, inputs: Mapping[str, Path]) -> list[Service]:
        service = load_episodes(params.environment, params.settings).service()
        return [service] if service else []

    def run(self, params: RescoreParams, inputs: Mapping[str, Path], out: Output) -> None:
        episodes = load_episodes(params.environment, params.settings)
        source = inputs["rollouts"] / ROLLOUTS
        failed, first = asyncio.run(_rescore_all(episodes, source, out))
        missing = sum(failed.values())
        if missing > params.accept_missing:
            raise UserError(
                f"{missing:,} rollouts came to no judgement, the first: {first}",
                f"--accept-missing {missing} publishes without them",
            )
        found = published.survey(source)
        rows = published.read_in_order(out.path / ROLLOUTS, found)
        identity = {"problems": episodes.identity(), **params.model_dump(mode="json")}
        rollout_files.write_metrics(rows, found.ids, found.repeats, out, identity, failed)

    def published(self, params: RescoreParams, home: Path) -> None:
        rollout_files.refresh_analysis(home)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a published file, one at a time."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


async def _rescore_all(episodes: Episodes, source: Path, out: Output) -> tuple[Counter[str], str]:
    """How many came to no judgement, by type, and the first of them in words."""
    first = ""
    failed: Counter[str] = Counter()
    service = episodes.service()
    total = sum(1 for _ in open(source, "rb"))  # noqa: SIM115
    with open(out.path / ROLLOUTS, "w", encoding="utf-8") as rows, open(out.path / FAILURES, "w") as failures:
        async with episodes.opened(out.endpoint(service.name) if service else None):
            done = 0
            async for row in _judged(episodes, read_rows(source)):
                done += 1
                if "error" in row:
                    failed[row["error"]["type"]] += 1
                    first = first or f"{row['id']!r}: {row['error']['type']}: {row['error']['message']}"
                    failure = {"id": row["id"], "repeat": row["repeat"], **row["error"]}
                    failures.write(json.dumps(failure, ensure_ascii=False) + "\n")
                else:
                    rows.write(json.dumps(row, ensure_ascii=False) + "\n")
                out.progress(done, total, "rollout")
    return failed, first


async def _judged(episodes: Episodes, rows: Iterator[Row]) -> AsyncIterator[Row]:
    """Each row with its new reward, in order, a few at a time."""
    waiting: list[asyncio.Task[Row]] = []
    for row in rows:
        waiting.append(asyncio.create_task(_judge(episodes, row)))
        if len(waiting) >= AT_ONCE:
            yield await waiting.pop(0)
    for task in waiting:
        yield await task


async def _judge(episodes: Episodes, row: Row) -> Row:
    from holdfast.rollouts.collect import Failed
    from holdfast.rollouts.multi_turn import replay

    if "messages" not in row or "turns" not in row:
        raise UserError(
            f"rollout {row['id']!r}, repeat {row['repeat']}, has no messages, and so cannot be judged again",
            "only what `holdfast rollout` collected or imported with its messages can",
        )
    try:
        return await replay(episodes, row)
    except Failed as error:
        return {**row, "error": {"type": str(error.kind), "message": str(error)}}
