"""The problems that all clients of `bench/rollouts.py` solve: sums, in one turn or with a tool that adds.

Peers run in environments of their own, so this needs nothing but Python.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

REPEATS = 16
MOST_TOKENS = 64
CALLS = 3
"""Of the tool, in a rollout with tools; then comes the answer."""
TURNS = {"single": 1, "tools": CALLS + 1}
PARAMETERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {"type": "object", "properties": PARAMETERS, "required": list(PARAMETERS)},
    },
}


class Task(NamedTuple):
    """`total` rollouts, `in_flight` at a time, of the engine at `url`; what is written goes to `directory`."""

    shape: Literal["single", "tools"]
    url: str
    total: int
    in_flight: int
    directory: Path

    @property
    def prompts(self) -> int:
        return self.total // REPEATS


def question(number: int) -> str:
    """About 1.2 KB, as a short exercise has."""
    return "Add these two numbers, and say nothing but their sum. " * 22 + f"{number}+{number}="


def is_right(number: int, text: str) -> bool:
    """Whether the answer is the sum."""
    return text.strip() == str(2 * number)


def add(arguments: str | Mapping[str, Any]) -> str:
    """What the tool says; arguments as they come, in JSON."""
    found = json.loads(arguments) if isinstance(arguments, str) else arguments
    return str(found["a"] + found["b"])


def body(messages: list[dict[str, Any]], seed: int, shape: str) -> dict[str, Any]:
    """The request of a client that makes its own."""
    fields = {"temperature": 1.0, "top_p": 1.0, "max_tokens": MOST_TOKENS, "seed": seed}
    tools = {"tools": [TOOL]} if shape == "tools" else {}
    return {"model": "fake", "messages": messages, **fields, **tools}


def main(clients: Mapping[str, Callable[[Task], Awaitable[None]]], load: Callable[[str], object]) -> None:
    """Be the process of one client: `CLIENT SHAPE URL COUNT IN_FLIGHT DIRECTORY`.

    Writes what it cost without starting Python and loading libraries to `cost.json` in that directory: seconds, CPU
    seconds (user and system, children too), and the peak memory of the process in MiB. Every client checks that each
    of its answers is right.
    """
    name, shape, url, count, in_flight, directory = sys.argv[1:]
    task = Task("tools" if shape == "tools" else "single", url, int(count), int(in_flight), Path(directory))
    load(name)
    wall, cpu = time.perf_counter(), _processor_seconds()
    asyncio.run(_run(clients[name], task))
    spent = {"seconds": time.perf_counter() - wall, "cpu": _processor_seconds() - cpu}
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    (task.directory / "cost.json").write_text(json.dumps({**spent, "peak": peak}))


async def _run(client: Callable[[Task], Awaitable[None]], task: Task) -> None:
    await client(task)


def _processor_seconds() -> float:
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)
