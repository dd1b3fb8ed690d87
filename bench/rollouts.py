"""Measures the collector of rollouts beside verifiers, inspect_ai and a bare aiohttp loop: rate, CPU, memory.

    make bench-rollouts                                 everything, a round of some four minutes
    make bench-rollouts ARGS='--rounds 3'               ours and the bare loop three times, peers once
    python bench/rollouts.py --peer-python verifiers=PATH --peer-python inspect_ai=PATH

One fake engine, in a process of its own, takes a second for each answer. All clients play the same problems: sums, in
one turn, or with three calls of a tool and an answer. Ours does what the stage `rollouts` does up to its publication;
the bare loop writes a line for each rollout. CPU is that of the client's process without its start, `of the ideal` what
of the rate is there that latency allows. Writes `bench/results/rollouts.json` and `rollouts.md`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.core import describe_machine, median  # noqa: E402
from bench.evaluate import LATENCY, start_engine  # noqa: E402
from bench.sums import CALLS, TURNS  # noqa: E402

FILES = 16384
"""Open files that a client and the engine may have."""
TITLES = {"ours": "Holdfast", "bare": "bare aiohttp", "verifiers": "verifiers", "inspect_ai": "inspect_ai"}
SHAPES = {"single": "one turn", "tools": f"{CALLS} calls of a tool and an answer"}
PROGRAMS = {"verifiers": "rollout_verifiers.py", "inspect_ai": "rollout_inspect.py"}


@dataclass
class Cell:
    """A client, what it plays, and what that cost."""

    client: str
    shape: str
    total: int
    in_flight: int
    samples: list[dict[str, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Rollouts a second."""
        return self.total / self._median("seconds")

    @property
    def milliseconds(self) -> float:
        """CPU of one turn."""
        return 1000 * self._median("cpu") / self.total / TURNS[self.shape]

    @property
    def of_ideal(self) -> float:
        """What of the rate is there that the engine's latency allows."""
        return self.rate / (self.in_flight / LATENCY / TURNS[self.shape])

    @property
    def peak(self) -> float:
        """Memory of the process in MiB, at most."""
        return max(each["peak"] for each in self.samples)

    def as_dict(self) -> dict[str, object]:
        what = {"client": self.client, "shape": self.shape, "rollouts": self.total, "in_flight": self.in_flight}
        found = {"rate": self.rate, "of_ideal": self.of_ideal, "cpu_ms_a_turn": self.milliseconds, "peak": self.peak}
        return {**what, **found, "samples": self.samples}

    def _median(self, name: str) -> float:
        return median([each[name] for each in self.samples])


@dataclass(frozen=True)
class Goal:
    """What is to be, and what is."""

    words: str
    found: str
    is_met: bool


def make_cells(scale: int) -> list[Cell]:
    """Ours and the bare loop at every size, peers at 1,024. Slow ones play less, or nobody would wait for them."""
    cells = []
    for shape, waves in (("single", {512: 8, 1024: 8, 4096: 4}), ("tools", {512: 2, 1024: 2, 4096: 2})):
        for in_flight, wave in waves.items():
            size = in_flight // scale
            cells += [Cell(client, shape, wave * size, size) for client in ("ours", "bare")]
    few = 1024 // scale
    cells += [Cell("verifiers", "single", 2 * few, few), Cell("verifiers", "tools", few, few)]
    cells += [Cell("inspect_ai", "single", few, few), Cell("inspect_ai", "tools", few // 4, few // 4)]
    return cells


def measure(cells: Sequence[Cell], url: str, pythons: Mapping[str, str], rounds: int, directory: Path) -> None:
    """Fill in the samples, ours next to the bare loop; peers in the first round alone."""
    for number in range(rounds):
        for cell in cells:
            if cell.client in pythons and not (number and cell.client in PROGRAMS):
                print(f"{TITLES[cell.client]}, {SHAPES[cell.shape]}, {cell.in_flight:,} in flight", file=sys.stderr)
                cell.samples.append(run(cell, url, pythons[cell.client], directory))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)


def run(cell: Cell, url: str, python: str, directory: Path) -> dict[str, float]:
    """Have a client play.

    Raises:
        RuntimeError: it failed.
    """
    work = directory / "work"
    work.mkdir()
    program = str(HERE / PROGRAMS.get(cell.client, "rollout_clients.py"))
    command = [python, program, cell.client, cell.shape, url, str(cell.total), str(cell.in_flight), str(work)]
    with open(directory / "output", "w+b") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = (directory / "output").read_text(errors="replace")
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {said[-2000:]}")
    cost: dict[str, float] = json.loads((work / "cost.json").read_text())
    shutil.rmtree(work)
    return cost


def judge(cells: Sequence[Cell]) -> list[Goal]:
    """What the issue asks for, as far as it was measured."""
    found = {(cell.client, cell.shape, cell.in_flight): cell for cell in cells if cell.samples}
    goals = []
    for (client, shape, in_flight), ours in found.items():
        if client != "ours":
            continue
        where = f"{SHAPES[shape]}, {in_flight:,} in flight"
        bare, verifiers = (found.get((other, shape, in_flight)) for other in ("bare", "verifiers"))
        if in_flight == 512:
            goals.append(_at_least(f"90% of the ideal: {where}", ours.of_ideal, 0.9))
        if in_flight == 1024 and bare:
            goals.append(_at_least(f"80% of the bare loop's rate: {where}", ours.rate / bare.rate, 0.8))
        if in_flight == 1024 and verifiers:
            ratio = ours.rate / verifiers.rate
            goals.append(Goal(f"5 times verifiers' rate: {where}", f"{ratio:.1f} times", ratio >= 5))
        if in_flight == 4096:
            goals.append(Goal(f"1 ms CPU a turn: {where}", f"{ours.milliseconds:.2f} ms", ours.milliseconds <= 1))
            goals.append(Goal(f"100 MiB: {where}", f"{ours.peak:.0f} MiB", ours.peak <= 100))
    return goals


def _at_least(words: str, share: float, least: float) -> Goal:
    return Goal(words, f"{share:.0%}", share >= least)


def as_markdown(cells: Sequence[Cell], goals: Sequence[Goal], machine: str) -> str:
    """Both tables."""
    lines = [
        "| | in flight | rollouts | rollouts/s | of the ideal | CPU a turn | peak |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for cell in sorted(cells, key=lambda each: (each.shape, each.in_flight)):
        if cell.samples:
            figures = f"{cell.rate:,.0f} | {cell.of_ideal:.0%} | {cell.milliseconds:.2f} ms | {cell.peak:.0f} MB"
            title = f"{TITLES[cell.client]}, {SHAPES[cell.shape]}"
            lines.append(f"| {title} | {cell.in_flight:,} | {cell.total:,} | {figures} |")
    lines += ["", "| goal | found | |", "|---|--:|---|"]
    lines += [f"| {goal.words} | {goal.found} | {'met' if goal.is_met else 'missed'} |" for goal in goals]
    rounds = max(len(cell.samples) for cell in cells)
    notes = f"{machine}. {LATENCY:g} s to each answer, prompts of 1.2 KB; rounds: {rounds}. MB are MiB."
    return "\n".join([*lines, "", notes, ""])


def main() -> int:
    options = _parser().parse_args()
    pythons = {"ours": sys.executable, "bare": sys.executable, **dict(options.peer_python)}
    for name in PROGRAMS.keys() - pythons:
        print(f"{name} is left out: no --peer-python {name}=PATH", file=sys.stderr)
    allow_files()
    machine, cells = describe_machine(), make_cells(options.scale)
    scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    engine, url = start_engine(scratch, "--calls", str(CALLS))
    try:
        measure(cells, url, pythons, options.rounds, scratch)
    finally:
        engine.terminate()
        engine.wait()
        shutil.rmtree(scratch)
    report(cells, machine, options.out / "rollouts")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "--peer-python", type=_named, action="append", default=[], metavar="NAME=PATH", help="of verifiers, inspect_ai"
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="of ours and the bare loop (default: 1)")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="one Nth of everything, to try it out")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    return parser


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if name not in PROGRAMS or not equals:
        raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(PROGRAMS)}, then = and a Python")
    return name, path


def allow_files() -> None:
    """So many sockets are more than most systems allow at first; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def report(cells: Sequence[Cell], machine: str, path: Path) -> None:
    """Print the tables; write them as `path`.md, and every sample as `path`.json."""
    goals = judge(cells)
    table = as_markdown(cells, goals, machine)
    print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(table)
    told = [{"goal": goal.words, "found": goal.found, "is_met": goal.is_met} for goal in goals]
    rows = [cell.as_dict() for cell in cells if cell.samples]
    whole = {"schema": 1, "machine": machine, "cells": rows, "goals": told}
    path.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
