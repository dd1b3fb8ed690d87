"""Clients of `bench/rollouts.py` that need no other environment than ours, each as a process of its own:

    python bench/rollout_clients.py ours|bare SHAPE URL COUNT IN_FLIGHT DIRECTORY

`ours` is an attempt of the stage `rollouts`: the prompt set, what is owed, episodes, deadlines, tries, the breaker,
rows that are durable, progress. `bare` is aiohttp with a line for each rollout, and nothing that a real run needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import sums
from bench.sums import Task

from holdfast.environments.episodes import Message, Start, Step, user
from holdfast.environments.prompt_set import Row
from holdfast.environments.tool_calls import Outcome, ToolCall, ToolEpisode

KEY = "bench"


class Sum(ToolEpisode):
    """Worth 1 if the answer is the sum."""

    name = "sum"
    has_tools: ClassVar[bool] = False
    tools: tuple[dict[str, Any], ...] = ()

    def start(self, seed: int, row: Row) -> Start:
        self._number = int(row["number"])
        return Start([user(sums.question(self._number))], self.tools)

    def call(self, call: ToolCall) -> Outcome:
        return Outcome(sums.add(call.arguments))

    def said(self, message: Message) -> Step:
        right = sums.is_right(self._number, message.get("content") or "")
        return Step(reward=float(right), terminated=True)


class ToolSum(Sum):
    """As `Sum`, with a tool that adds."""

    name = "tool-sum"
    has_tools: ClassVar[bool] = True
    tools = (sums.TOOL,)


async def ours(task: Task) -> None:
    """What the stage `rollouts` does between its start and its publication."""
    from holdfast.engines import load_engine
    from holdfast.engines.completions import Sampling
    from holdfast.environments.episodes import load_episodes
    from holdfast.environments.prompt_set import PromptSet
    from holdfast.rollouts.asking import Attempt, Engines
    from holdfast.rollouts.calls import Limits
    from holdfast.rollouts.collection import Collection
    from holdfast.rollouts.counts import Counts
    from holdfast.rollouts.multi_turn import Bounds, MultiTurn

    prompts = PromptSet(_write_prompts(task))
    episodes = load_episodes(f"{__name__}:{'ToolSum' if task.shape == 'tools' else 'Sum'}")
    out = _output(task.directory)
    collection = Collection(out.parts(KEY), out.attempt, out.token)
    engine, sampling = load_engine("url", {"url": task.url}), Sampling(1.0, 1.0, sums.MOST_TOKENS)
    limits = Limits(in_flight=task.in_flight)
    attempt = Attempt(Engines(engine, task.directory, sampling, KEY, [task.url], limits), out, "rollout")
    with contextlib.closing(collection.index(prompts.ids, sums.REPEATS)) as index:
        counts, bounds, seeds = Counts(index.wanted, index.done), Bounds.of(episodes), attempt.seeds()
        trouble = await attempt.run(
            index.owed(3),
            collection,
            counts,
            lambda client, calls: MultiTurn(client, calls, episodes, prompts, seeds, index.response, bounds),
        )
    if trouble or counts.done != task.total:
        raise ValueError(f"{counts.done} rollouts of {task.total}: {trouble}")


def _write_prompts(task: Task) -> Path:
    path = task.directory / "prompts.jsonl"
    path.write_text("".join(f'{{"id": "{number}", "number": {number}}}\n' for number in range(task.prompts)))
    return path


def _output(directory: Path) -> Any:
    from holdfast.core.output import Output

    record, environ = directory / "record", dict[str, str]()
    record.mkdir()
    collections, own = directory / "collections", {"key": KEY, "token": "0badcafe"}
    return Output(
        directory, **own, attempt=1, record=record, collections=collections, environ=environ, input_digests=environ
    )


def check_rows(directory: Path, count: int) -> None:
    """Once the clock has stopped.

    Raises:
        ValueError: rows are missing, or wrong.
    """
    rewards = [json.loads(line)["reward"] for line in _lines(directory)]
    if rewards != [1.0] * count:
        raise ValueError(f"{len(rewards)} rows of {count}, {sum(rewards):g} right")


def _lines(directory: Path) -> Iterator[str]:
    for path in [directory / "bare.jsonl", *directory.glob("collections/*/parts/*.jsonl")]:
        if path.exists():
            with open(path) as lines:
                yield from lines


async def bare(task: Task) -> None:
    """A pool of workers, one session, a line for each rollout."""
    import aiohttp

    connector, unlimited = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    numbers = iter(range(task.total))
    with open(task.directory / "bare.jsonl", "w") as rows:
        async with aiohttp.ClientSession(connector=connector, timeout=unlimited) as session:

            async def work() -> None:
                for number in numbers:
                    rows.write(json.dumps(await _play(session, task, number)) + "\n")
                    rows.flush()

            await asyncio.gather(*(work() for _ in range(task.in_flight)))


async def _play(session: Any, task: Task, number: int) -> dict[str, Any]:
    prompt = number // sums.REPEATS
    messages: list[dict[str, Any]] = [{"role": "user", "content": sums.question(prompt)}]
    for turn in range(sums.TURNS[task.shape]):
        request = sums.body(messages, number + turn, task.shape)
        async with session.post(f"{task.url}/v1/chat/completions", json=request) as response:
            message = (await response.json())["choices"][0]["message"]
        messages.append(message)
        for call in message.get("tool_calls", ()):
            content = sums.add(call["function"]["arguments"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    reward = float(sums.is_right(prompt, messages[-1]["content"]))
    return {"id": prompt, "repeat": number % sums.REPEATS, "reward": reward, "messages": messages}


def _load(name: str) -> None:
    """Import what the client needs before the clock runs."""
    if name == "bare":
        import aiohttp  # noqa: F401
    else:
        from holdfast.engines import client, url  # noqa: F401
        from holdfast.rollouts import asking, multi_turn, row_index, writer  # noqa: F401


if __name__ == "__main__":
    sums.main({"ours": ours, "bare": bare}, _load)
    check_rows(Path(sys.argv[-1]), int(sys.argv[4]))
