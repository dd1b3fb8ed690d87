"""What tests of episodes share: one attempt at a collection of them, through the fake engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rollouts.fake_engine import QUICK

from holdfast.engines import load_engine
from holdfast.engines.client import connect
from holdfast.engines.completions import EngineError, Sampling
from holdfast.environments.episodes import Episodes, load_episodes
from holdfast.environments.prompt_set import OwnPrompts, Prompts
from holdfast.rollouts.breaker import Breaker
from holdfast.rollouts.calls import Calls, Limits
from holdfast.rollouts.collect import collect
from holdfast.rollouts.collection import Collection, Row, Sample
from holdfast.rollouts.counts import Counts
from holdfast.rollouts.multi_turn import Bounds, MultiTurn
from holdfast.rollouts.single_turn import derive_seed


@dataclass
class Result:
    """How an attempt went: `rows` are those that count, `failures` those of this and of earlier attempts."""

    counts: Counts
    trouble: EngineError | None
    rows: dict[Sample, Row]
    lines: list[Row]

    @property
    def failures(self) -> list[Row]:
        return [line for line in self.lines if "error" in line]


def rows_of(count: int, **more: Any) -> OwnPrompts:
    """Prompts `p0`, `p1`, ... that say nothing more."""
    return OwnPrompts({f"p{number}": {"id": f"p{number}", "number": number, **more} for number in range(count)})


def collect_episodes(
    directory: Path,
    url: str,
    environment: str | Episodes,
    prompts: Prompts | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    repeats: int = 1,
    attempt: int = 1,
    limits: Limits = QUICK,
    max_tokens: int = 256,
    should_stop: Callable[[Counts], bool] = lambda counts: False,
    seed: Callable[[Sample], int | None] = lambda sample: derive_seed("test", sample),
    server: str | None = None,
    keep: bool = True,
    **bounds: Any,
) -> Result:
    """One attempt at `repeats` rollouts of each prompt, with rows in `directory/parts`, read if they are `keep`t."""
    parts = directory / "parts"
    parts.mkdir(exist_ok=True, parents=True)
    episodes = load_episodes(environment, settings) if isinstance(environment, str) else environment
    asked = prompts or episodes.prompts()
    assert asked is not None
    index = Collection(parts, attempt, "t").index(asked.ids, repeats)
    counts = Counts(index.wanted, index.done)

    async def main() -> EngineError | None:
        engine = load_engine("url", {"url": f"{url}/v1", "served_name": "fake"})
        async with (
            episodes.opened(server),
            connect(engine, directory, Sampling(1.0, 1.0, max_tokens), url, lambda words: None) as (client, _),
        ):
            breaker = Breaker(client.is_healthy, limits.patience, lambda words: None)
            calls = Calls(limits, breaker)
            work = MultiTurn(client, calls, episodes, asked, seed, index.response, Bounds.of(episodes, **bounds))
            try:
                return await collect(
                    index.owed(),
                    work,
                    Collection(parts, attempt, "t"),
                    counts,
                    limits=limits,
                    trouble=lambda: calls.trouble,
                    should_stop=lambda: should_stop(counts),
                    more={"attempt": attempt},
                )
            finally:
                await breaker.close()

    with contextlib.closing(index):
        trouble = asyncio.run(main())
    return Result(counts, trouble, *(read(directory, asked, repeats) if keep else ({}, [])))


def read(directory: Path, prompts: Prompts, repeats: int) -> tuple[dict[Sample, Row], list[Row]]:
    """The rows that count, and every whole line."""
    import json

    parts = directory / "parts"
    with contextlib.closing(Collection(parts, 99, "reader").index(prompts.ids, repeats)) as index:
        rows = {Sample(row["id"], row["repeat"]): row for row in index.rows()}
    texts = [text for part in sorted(parts.glob("*.jsonl")) for text in part.read_text().split("\n")[:-1]]
    return rows, [json.loads(text) for text in texts]
