"""What tests of the loop share: the fake engine as a real process, and a collection made through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.engines import load_engine
from holdfast.engines.client import connect
from holdfast.engines.completions import EngineError, Sampling
from holdfast.environments import Grade, Prompt
from holdfast.rollouts.breaker import Breaker
from holdfast.rollouts.calls import Calls, Limits
from holdfast.rollouts.collect import collect
from holdfast.rollouts.collection import Collection, Sample
from holdfast.rollouts.counts import Counts
from holdfast.rollouts.single_turn import SingleTurn

QUICK = Limits(in_flight=8, deadline=5.0, tries=3, backoff=0.01, patience=30.0, stall=20.0, grace=5.0)
REPEATS = 2
Grading = Callable[[str, str], Awaitable[Grade]]


@dataclass
class Server:
    """The fake engine in a process of its own, on a port that it keeps when it is started again."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "requests.jsonl"

    def start(self, *options: str, is_awaited: bool = True) -> None:
        program = [sys.executable, "-m", "holdfast.engines.fake", "--port", str(self.port), "--log", str(self.log)]
        self.kill()
        self.process = subprocess.Popen([*program, *options])
        while is_awaited and not self.answers():
            assert self.process.poll() is None, "the engine ended"
            time.sleep(0.01)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def asked(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[Server]:
    """A fake engine that answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(directory, port)
    server.start(*options)
    try:
        yield server
    finally:
        server.kill()


async def grade(prompt_id: str, response: str) -> Grade:
    """Right is right."""
    left, right = prompt_id.split("+")
    return Grade(float(response == str(int(left) + int(right))), response)


@dataclass
class Result:
    """How a collection ended, and what is in it."""

    counts: Counts
    trouble: EngineError | None
    rows: dict[Sample, dict[str, Any]]
    lines: list[dict[str, Any]]
    seen: list[str] = field(default_factory=list)


def ids(count: int) -> list[str]:
    return [f"{10 + n}+{n}" for n in range(count)]


def run(
    directory: Path,
    url: str,
    *,
    prompts: int = 20,
    attempt: int = 1,
    limits: Limits = QUICK,
    grading: Grading = grade,
    should_stop: Callable[[Counts], bool] = lambda counts: False,
    on_report: Callable[[Counts], object] = lambda counts: None,
    seed: Callable[[Sample], int | None] = lambda sample: sample.repeat,
) -> Result:
    """One attempt at `REPEATS` responses to each of `prompts` problems, with rows in `directory/parts`."""
    parts = directory / "parts"
    parts.mkdir(exist_ok=True)
    wanted = {each: Prompt(each, f"{each}=") for each in ids(prompts)}
    index = Collection(parts, attempt, "t").index(list(wanted), REPEATS)
    counts, seen = Counts(index.wanted, index.done), list[str]()

    async def main() -> EngineError | None:
        engine = load_engine("url", {"url": f"{url}/v1", "served_name": "fake"})
        async with connect(engine, directory, Sampling(1.0, 1.0, 64), url, seen.append) as (client, _):
            breaker = Breaker(client.is_healthy, limits.patience, seen.append)
            calls = Calls(limits, breaker)
            work = SingleTurn(client, calls, wanted, grading, seed, index.response)
            try:
                return await collect(
                    index.owed(),
                    work,
                    Collection(parts, attempt, "t"),
                    counts,
                    limits=limits,
                    trouble=lambda: calls.trouble,
                    should_stop=lambda: should_stop(counts),
                    report=on_report,
                    more={"attempt": attempt},
                )
            finally:
                await breaker.close()

    with contextlib.closing(index):
        trouble = asyncio.run(main())
    return Result(counts, trouble, *read(directory, prompts), seen)


def read(directory: Path, prompts: int) -> tuple[dict[Sample, dict[str, Any]], list[dict[str, Any]]]:
    """The rows that count, and every whole line."""
    parts = directory / "parts"
    index = Collection(parts, 99, "reader").index(ids(prompts), REPEATS)
    rows = {Sample(row["id"], row["repeat"]): row for row in index.rows()}
    index.close()
    texts = [text for part in sorted(parts.glob("*.jsonl")) for text in part.read_text().split("\n")[:-1]]
    return rows, [json.loads(text) for text in texts]
