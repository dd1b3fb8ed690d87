"""Measures the report on rollouts beside pandas and `jq -s`, which print the few statistics of the document's script.

    make bench-analyze                                  320,000 rows three times, 3,200,000 once: about eight minutes
    make bench-analyze ARGS='--large 0 --rounds 1'

Ours is the whole report: coverage, every metric with its interval, correlations, figures, HTML. All read the same file
from the page cache, in turn; what counts is the ratio round by round. Peak memory is `ru_maxrss` of the process.
Writes `bench/results/analyze.json` and `analyze.md`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.core import Program, Row, describe_machine, report, run  # noqa: E402
from bench.rollout_workload import JQ  # noqa: E402

WORKLOAD = str(HERE / "rollout_workload.py")
ANALYZE = (
    "import sys, argparse; from holdfast.cli import rollout_analyze as verb; parser = argparse.ArgumentParser(); "
    "verb.add_arguments(parser); sys.exit(verb.run(parser.parse_args()))"
)
BYTES = 2200
"""Of a row, for the look at the disk."""
LEAST = 1 / 5
MOST_PEAK = 300.0
NOTE = (
    "Rows of about 2.1 KB, 16 to a prompt, in the page cache. Ours is the whole report with intervals, correlations, "
    "figures and HTML; the others print minimum, maximum, mean, median, successes, the most frequent rewards, tool "
    "calls and the mean reward by them. Seconds hold the start of every program."
)


@dataclass
class Report(Row):
    """A row with a goal for memory (MiB)."""

    most_peak: float | None = None

    @property
    def is_met(self) -> bool | None:
        if self.most_peak is not None:
            return max((sample.peak for sample in self.samples), default=0.0) <= self.most_peak
        return None if self.ratio is None or self.most_ratio is None else self.ratio <= self.most_ratio


def make_rows(count: int) -> list[Row]:
    """Ours beside each peer."""
    title = f"report on {count:,} rollouts"
    jq = Program("jq -s, some statistics", ("jq", "-s", JQ, "rows.jsonl"))
    pandas = Program("pandas.read_json, some statistics", (sys.executable, WORKLOAD, "pandas", "rows.jsonl"))
    lines = Program("json.loads a line, then pandas", (sys.executable, WORKLOAD, "lines", "rows.jsonl"))
    return [
        Report(ours(title), jq, most_ratio=LEAST),
        Report(ours(title), pandas, most_ratio=LEAST),
        Report(ours(title), lines),
    ]


def ours(title: str) -> Program:
    return Program(title, (sys.executable, "-c", ANALYZE, "rows.jsonl", "--out", "out"))


def write(directory: Path, count: int) -> None:
    """Make the file; it is in the page cache then."""
    subprocess.run([sys.executable, WORKLOAD, "write", str(directory / "rows.jsonl"), str(count)], check=True)


def measure(rows: Sequence[Row], directory: Path, rounds: int) -> None:
    """Fill in the samples, ours next to each peer. Nothing is warmed up but the file."""
    for number in range(rounds):
        for row in rows:
            assert row.peer
            row.samples.append(run(row.ours, directory, number))
            row.peers.append(run(row.peer, directory, number))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)


def measure_large(directory: Path, count: int) -> Report:
    """Ours alone, once."""
    row = Report(ours(f"report on {count:,} rollouts"), most_peak=MOST_PEAK)
    write(directory, count)
    row.samples.append(run(row.ours, directory, 1))
    return row


def check_room(directory: Path, count: int) -> None:
    """
    Raises:
        SystemExit: the disk has not enough room for the rows.
    """
    free, needs = shutil.disk_usage(directory).free, count * BYTES * 1.1
    if free < needs:
        sys.exit(f"{directory} has {free / 1e9:.0f} GB free, {needs / 1e9:.0f} GB are needed: use --dir or --large 0")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=320_000, metavar="N", help="beside others (default: 320,000)")
    parser.add_argument("--large", type=int, default=3_200_000, metavar="N", help="alone (default: 3,200,000; 0: not)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="counted runs of each command (default: 3)")
    parser.add_argument("--dir", metavar="DIR", help="where to work: a local disk (default: that of temporaries)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    machine = describe_machine()
    os.environ["OMP_NUM_THREADS"] = "1"
    scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=options.dir))
    try:
        check_room(scratch, max(options.rows, options.large))
        rows = measure_all(scratch, options.rows, options.large, options.rounds)
    finally:
        shutil.rmtree(scratch)
    report(rows, machine, NOTE, options.out / "analyze")
    return 0


def measure_all(directory: Path, count: int, large: int, rounds: int) -> Sequence[Row]:
    rows = make_rows(count)
    write(directory, count)
    measure(rows, directory, rounds)
    return [*rows, *([measure_large(directory, large)] if large else [])]


if __name__ == "__main__":
    sys.exit(main())
