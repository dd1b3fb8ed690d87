"""One client of `bench/evaluate.py`, as a process of its own:

    python bench/ask.py CLIENT URL REQUESTS IN_FLIGHT DIRECTORY

Prints what the asking cost, without starting Python and loading libraries: seconds, CPU seconds (user and system), and
the peak memory of the process in MiB. Every client checks that each answer is right.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from holdfast.environments import Grade

MOST_TOKENS = 64
Ask = Callable[[int], Awaitable[str]]


def prompt(number: int) -> str:
    """About 1.2 KB, as a short exercise has."""
    return "Add these two numbers, and say nothing but their sum. " * 22 + f"{number}+{number}="


def check(number: int, text: str) -> None:
    """
    Raises:
        ValueError: the answer is another one.
    """
    if text.split()[-1] != str(2 * number):
        raise ValueError(f"{text!r} to {number}")


async def ours(url: str, count: int, in_flight: int, directory: Path) -> None:
    """The client and the loop of `evaluate`: tries, breaker, grades, and rows that are durable."""
    from holdfast.engines import load_engine
    from holdfast.engines.client import connect
    from holdfast.engines.completions import Sampling
    from holdfast.environments import Prompt
    from holdfast.rollouts.breaker import Breaker
    from holdfast.rollouts.calls import Calls, Limits
    from holdfast.rollouts.collect import collect
    from holdfast.rollouts.collection import Collection, Sample
    from holdfast.rollouts.counts import Counts
    from holdfast.rollouts.single_turn import SingleTurn, derive_seed

    async def grade(prompt_id: str, response: str) -> Grade:
        return Grade(float(response.split()[-1] == str(2 * int(prompt_id))))

    prompts = {str(number): Prompt(str(number), prompt(number)) for number in range(count)}
    collection, limits = Collection(directory, 1, "bench"), Limits(in_flight=in_flight)
    index = collection.index(list(prompts), 1)
    counts = Counts(index.wanted)
    engine = load_engine("url", {"url": url})

    def seed(sample: Sample) -> int:
        return derive_seed("bench", sample)

    async with connect(engine, directory, Sampling(1.0, 1.0, MOST_TOKENS), url) as (client, _):
        breaker = Breaker(client.is_healthy, limits.patience)
        calls = Calls(limits, breaker)
        work = SingleTurn(client, calls, prompts, grade, seed, index.response)
        await collect(index.owed(), work, collection, counts, limits=limits, trouble=lambda: calls.trouble)
    rewards = sum(row["reward"] for row in collection.index(list(prompts), 1).rows())
    if (counts.done, rewards) != (count, count):
        raise ValueError(f"{counts.done} responses of {count}, {rewards} right")


async def bare(url: str, count: int, in_flight: int, directory: Path) -> None:
    """aiohttp and a line for each answer, and nothing that a real run needs."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    with open(directory / "bare.jsonl", "w") as rows:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

            async def ask(number: int) -> str:
                async with session.post(f"{url}/v1/completions", json=body(number)) as response:
                    content = await response.json()
                text = str(content["choices"][0]["text"])
                rows.write(json.dumps({"id": number, "response": text, "usage": content["usage"]}) + "\n")
                rows.flush()
                return text

            await ask_all(ask, count, in_flight)


async def httpx_alone(url: str, count: int, in_flight: int, directory: Path) -> None:
    """httpx, as most scripts use it, with its limits lifted."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=None, limits=limits) as client:

        async def ask(number: int) -> str:
            response = await client.post(f"{url}/v1/completions", json=body(number))
            return str(response.json()["choices"][0]["text"])

        await ask_all(ask, count, in_flight)


async def openai_sdk(url: str, count: int, in_flight: int, directory: Path) -> None:
    """The OpenAI SDK with its own client."""
    import openai

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=600) as client:

        async def ask(number: int) -> str:
            completion = await client.completions.create(
                model="fake", prompt=prompt(number), max_tokens=MOST_TOKENS, temperature=1.0, top_p=1.0, seed=number
            )
            return str(completion.choices[0].text)

        await ask_all(ask, count, in_flight)


def body(number: int) -> dict[str, object]:
    """The same request as the others send."""
    fields = {"temperature": 1.0, "top_p": 1.0, "max_tokens": MOST_TOKENS, "seed": number}
    return {"model": "fake", "prompt": prompt(number), **fields}


async def ask_all(ask: Ask, count: int, in_flight: int) -> None:
    """`count` requests by `in_flight` workers."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            check(number, await ask(number))

    await asyncio.gather(*(work() for _ in range(in_flight)))


CLIENTS = {"ours": ours, "bare": bare, "httpx": httpx_alone, "openai": openai_sdk}


def main() -> None:
    name, url, count, in_flight, directory = sys.argv[1:]
    _load(name)
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(CLIENTS[name](url, int(count), int(in_flight), Path(directory)))
    spent = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    os.write(1, json.dumps({**spent, "peak": peak}).encode())


def _load(name: str) -> None:
    """Import what the client needs before the clock runs."""
    if name == "openai":
        import openai  # noqa: F401
    elif name == "httpx":
        import httpx  # noqa: F401
    else:
        import aiohttp  # noqa: F401

        from holdfast.engines import client, url  # noqa: F401
        from holdfast.rollouts import row_index  # noqa: F401


if __name__ == "__main__":
    main()
