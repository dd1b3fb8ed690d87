"""Measures the page of rollouts on a large file: the index, the first page with it and without, a rollout, memory.

    make bench-view                              1,000,000 rows of 2 KB, some minutes
    make bench-view ARGS='--rows 100000'

Times are those of a client that asks the server over HTTP, as the page does. "First page" begins with the start of the
command and ends when the counts, the first 200 rows and the histogram have arrived. Writes `bench/results/view.json`
and `view.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.core import describe_machine, median  # noqa: E402

REPEATS = 16
FIRST = ("/api/summary", "/api/rows?limit=200", "/api/histogram?measure=reward&bins=40")
FIRST_GOAL, ROW_GOAL = 1.0, 0.1
"""Seconds to the first page with an index, and to a rollout."""
PROGRAM = """
import argparse, sys
from pathlib import Path
from holdfast.cli import rollout_view
parser = argparse.ArgumentParser()
parser.add_argument("--root", type=Path)
rollout_view.add_arguments(parser)
sys.exit(rollout_view.run(parser.parse_args()))
"""


def write_rows(path: Path, count: int) -> None:
    """Rows of 2 KB, 16 to a prompt, of several turns each."""
    draw = random.Random(1)
    words = "the piece goes down and left until it lies on the floor of the board " * 4
    with open(path, "w", buffering=2**22) as file:
        for number in range(count):
            prompt, repeat = divmod(number, REPEATS)
            reward = round(draw.choice((-0.4, -0.8, -1.2, 9.2, 19.1)) + draw.randrange(5) / 10, 1)
            turn = f'{{"reward":{reward / 4},"seconds":1.5,"usage":{{"completion_tokens":90}},"info":{{}}}}'
            message = f'{{"role":"assistant","content":"{words}"}}'
            file.write(
                f'{{"schema":1,"id":"puzzle-{prompt}","repeat":{repeat},"prompt":{{"game_id":{prompt},"seed":{number}}},'
                f'"response":{{"output":[{{"type":"text","text":"{words}"}}],"finish_reason":"stop"}},"reward":{reward},'
                f'"success":{"true" if reward > 5 else "false"},"num_steps":{draw.randrange(1, 20)},'
                f'"usage":{{"prompt_tokens":900,"completion_tokens":{draw.randrange(4000)}}},"tool_calls":4,'
                f'"timing":{{"started":{number}.25,"finished":{number + draw.randrange(600)}.5}},"attempt":1,"tries":1,'
                f'"finish":"stop","truncated":false,'
                f'"messages":[{",".join([message] * 4)}],"turns":[{",".join([turn] * 4)}]}}\n'
            )


@contextmanager
def viewing(path: Path, root: Path) -> Iterator[tuple[str, int, float]]:
    """(URL, process id, when it was started) of a viewer."""
    began = time.perf_counter()
    command = [sys.executable, "-c", PROGRAM, "--root", str(root), "--no-browser", "--port", "0", str(path)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        assert it.stdout is not None
        yield it.stdout.readline().strip().rstrip("/"), it.pid, began
        it.send_signal(signal.SIGINT)


def ask(url: str) -> tuple[float, Any]:
    """Seconds, and the answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=120) as response:
        content = response.read()
    return time.perf_counter() - began, json.loads(content)


def peak(pid: int) -> tuple[float, float]:
    """Peak memory of a process in MiB, and what of its present memory are pages of files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024, int(status["RssFile"].split()[0]) / 1024


def processor_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_page(url: str, began: float) -> float:
    """Seconds from the start of the command to all that the page shows at first."""
    for path in FIRST:
        ask(url + path)
    return time.perf_counter() - began


def measure_without_index(path: Path, root: Path) -> dict[str, float]:
    """The first opening: rows are shown while the index is made."""
    with viewing(path, root) as (url, pid, began):
        found = {"first page without an index": first_page(url, began)}
        while (state := ask(url + "/api/summary")[1]["state"])["reading"]:
            time.sleep(1.0)
        found["index made"] = time.perf_counter() - began
        found["CPU for it"] = processor_seconds(pid)
        found["rows"] = state["rows"]
        found["peak while it is made"] = peak(pid)[0]
    return found


def measure_with_index(path: Path, root: Path, count: int) -> dict[str, float]:
    """Every later opening."""
    draw = random.Random(2)
    with viewing(path, root) as (url, pid, began):
        found = {"first page with an index": first_page(url, began)}
        found["rows"] = ask(url + "/api/summary")[1]["totals"]["rows"]
        rows = [ask(f"{url}/api/row/{draw.randrange(count)}")[0] for _ in range(200)]
        found["a rollout, median of 200"], found["a rollout, slowest of 200"] = median(rows), max(rows)
        found["sorted by tokens"] = ask(f"{url}/api/rows?limit=200&sort=tokens&dir=desc")[0]
        found["its last page"] = ask(f"{url}/api/rows?limit=200&sort=tokens&dir=desc&offset={count - 200}")[0]
        found["filtered by reward and success"] = ask(f"{url}/api/rows?limit=200&reward_min=9&success=yes")[0]
        found["searched by prompt"] = ask(f"{url}/api/rows?limit=200&search=zle-777")[0]
        found["histogram of lengths"] = ask(f"{url}/api/histogram?measure=length")[0]
        found["repeats of a prompt"] = ask(f"{url}/api/prompt/{count // REPEATS // 2}")[0]
        found["peak with an index"], found["of it mapped from the index"] = peak(pid)
    return found


def as_markdown(found: dict[str, float], size: int, machine: str) -> str:
    """The table."""
    lines = ["| | |", "|---|--:|"]
    for name, value in found.items():
        if name != "rows":
            is_memory = name.startswith(("peak", "of it"))
            spelled = f"{value:,.0f} MB" if is_memory else f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"
            lines.append(f"| {name} | {spelled} |")
    rate = found["CPU for it"] / (size / 1e9)
    return "\n".join(
        [
            *lines,
            "",
            f"{machine}. {found['rows']:,.0f} rows, {size / 1e9:.2f} GB; CPU for the index: {rate:.1f} s a GB.",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="how many (default: 1,000,000)")
    parser.add_argument("--no-write", action="store_true", help="print the table, write no results")
    options = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as directory:
        path, root = Path(directory) / "rollouts.jsonl", Path(directory) / "root"
        write_rows(path, options.rows)
        size = path.stat().st_size
        print(f"{options.rows:,} rows, {size / 1e9:.2f} GB", file=sys.stderr)
        found = measure_without_index(path, root) | measure_with_index(path, root, options.rows)
    assert found["rows"] == options.rows
    table = as_markdown(found, size, machine)
    print(table)
    if not options.no_write:
        (HERE / "results" / "view.md").write_text(table)
        (HERE / "results" / "view.json").write_text(
            json.dumps({"machine": machine, "bytes": size, **found}, indent=1) + "\n"
        )
    slow = found["first page with an index"] > FIRST_GOAL or found["a rollout, slowest of 200"] > ROW_GOAL
    return int(slow and options.rows <= 1_000_000)


if __name__ == "__main__":
    sys.exit(main())
