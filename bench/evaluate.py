"""Measures what asking an engine costs: our client with its loop, beside httpx, the OpenAI SDK and bare aiohttp.

    make bench-evaluate                                 1,024 in flight, three rounds, about three minutes
    make bench-evaluate ARGS='--rounds 1 --in-flight 256'

The engine is the fake one in a process of its own, 1 s to each answer. Ours does all that an evaluation does: tries,
circuit breaker, grades, and rows that are durable; the others only ask. In every round all clients run in turn; what
counts is the median. CPU is user and system time of the client's process, without its start. Writes
`bench/results/evaluate.json` and `evaluate.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.core import describe_machine, median  # noqa: E402

LATENCY = 1.0
MOST_MS = 0.5
"""The goal: CPU milliseconds for a request of ours."""


@dataclass
class Row:
    """A client, how often it asks, and what that cost."""

    title: str
    client: str
    requests: int
    samples: list[dict[str, float]] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """CPU for one request."""
        return 1000 * median([each["cpu"] for each in self.samples]) / self.requests

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / median([each["seconds"] for each in self.samples])

    @property
    def peak(self) -> float:
        """Memory of the process in MiB."""
        return median([each["peak"] for each in self.samples])


def make_rows(in_flight: int) -> list[Row]:
    """Who is measured. The slow ones ask less often, or nobody would wait for them."""
    return [
        Row("Holdfast: client, loop, grades, durable rows", "ours", 4 * in_flight),
        Row("the same, four times as many requests", "ours", 16 * in_flight),
        Row("bare aiohttp, a line for each answer", "bare", 4 * in_flight),
        Row("OpenAI SDK", "openai", 2 * in_flight),
        Row("httpx", "httpx", in_flight),
    ]


def measure(rows: Sequence[Row], url: str, in_flight: int, rounds: int, directory: Path) -> None:
    """Fill in the samples."""
    for number in range(rounds):
        for row in rows:
            work = directory / f"{number}-{row.client}-{row.requests}"
            work.mkdir()
            command = [sys.executable, str(HERE / "ask.py"), row.client, url, str(row.requests), str(in_flight)]
            done = subprocess.run([*command, str(work)], check=True, stdout=subprocess.PIPE)
            row.samples.append(json.loads(done.stdout))
            shutil.rmtree(work)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)


def as_markdown(rows: Sequence[Row], machine: str, in_flight: int) -> str:
    """The table."""
    lines = ["| | requests | CPU each | requests/s | peak |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        figures = f"{row.milliseconds:.2f} ms | {row.rate:,.0f} | {row.peak:.0f} MB"
        lines.append(f"| {row.title} | {row.requests:,} | {figures} |")
    notes = f"{machine}. {in_flight:,} requests in flight, {LATENCY:g} s to each answer, prompts of 1.2 KB. "
    return "\n".join([*lines, "", notes + f"Medians of {len(rows[0].samples)} rounds, everything in turn.", ""])


def start_engine(directory: Path, *options: str, latency: float = LATENCY) -> tuple[subprocess.Popen[bytes], str]:
    """The fake engine, ready, and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-m", "holdfast.engines.fake", "--port", str(port), "--latency", str(latency)]
    engine = subprocess.Popen([*program, *options], cwd=directory)
    url = f"http://127.0.0.1:{port}"
    while engine.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return engine, url
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError(f"the engine ended with {engine.returncode}")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--in-flight", type=int, default=1024, metavar="N", help="requests at a time (default: 1,024)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each client (default: 3)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    machine, rows = describe_machine(), make_rows(options.in_flight)
    scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    engine, url = start_engine(scratch)
    try:
        measure(rows, url, options.in_flight, options.rounds, scratch)
    finally:
        engine.terminate()
        engine.wait()
        shutil.rmtree(scratch)
    report(rows, machine, options.in_flight, options.out / "evaluate")
    return 0


def report(rows: Sequence[Row], machine: str, in_flight: int, path: Path) -> None:
    """Print the table and what missed its goal; write it as `path`.md, and every sample as `path`.json."""
    table = as_markdown(rows, machine, in_flight)
    print(table)
    for row in rows:
        if row.client == "ours" and row.milliseconds > MOST_MS:
            print(f"missed: {row.title}: {row.milliseconds:.2f} ms, at most {MOST_MS} ms")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(table)
    content = [
        {"title": row.title, "requests": row.requests, "cpu_ms": row.milliseconds, "samples": row.samples}
        for row in rows
    ]
    whole = {"schema": 1, "machine": machine, "in_flight": in_flight, "rows": content}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
