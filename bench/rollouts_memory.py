"""Measures how memory grows with a collection of rollouts, and how long an attempt takes to know what is owed.

    make bench-rollouts-memory                          10,000 and 1,000,000 rows of 2 KB, about five minutes, 8 GB
    make bench-rollouts-memory ARGS='--large 100000'

Each is a process of its own that runs the stage: it counts what is owed, has it from the fake engine, and publishes
all. 10,000 rollouts are collected in either case, which is all of the small collection; the other rows of the large
one were written by a generator. Peak memory is `ru_maxrss`. Writes `bench/results/rollouts_memory.json` and
`rollouts_memory.md`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.analyze import check_room  # noqa: E402
from bench.core import Program, Sample, describe_machine, run, write_results  # noqa: E402
from bench.evaluate import start_engine  # noqa: E402

WORKLOAD = "bench.collection_workload"
MOST_GROWTH, MOST_PEAK, MOST_SECONDS = 50.0, 200.0, 10.0
"""MiB from the small collection to the large one; MiB and seconds of the decision on the large one."""
COPIES = 4
"""Of all rows, on the disk at a time: parts, published, imported, and some room."""
ACTIONS = {
    "decide": "what is owed is known",
    "collect": "collected and published",
    "import": "the published file imported",
}


def measure(directory: Path, counts: tuple[int, int]) -> dict[str, dict[int, Sample]]:
    """Every action on either collection."""
    found: dict[str, dict[int, Sample]] = {action: {} for action in ACTIONS}
    with serving(directory) as url:
        for count in counts:
            place = directory / str(count)
            place.mkdir()
            subprocess.run([*program("write", place, count), str(min(counts))], check=True)
            for action, title in ACTIONS.items():
                more = [url] if action == "collect" else []
                command = (*program(action, place, count), *more)
                found[action][count] = run(Program(title, command), directory, 0)
                print(f"{count:,}: {title}: {found[action][count]}", file=sys.stderr)
            shutil.rmtree(place)
    return found


def program(action: str, directory: Path, count: int) -> tuple[str, ...]:
    """Of the workload; `bench` is found from any directory."""
    start = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from {WORKLOAD} import main; main()"
    return (sys.executable, "-c", start, action, str(directory), str(count))


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """The URL of a fake engine that answers at once."""
    engine, url = start_engine(directory, latency=0.0)
    try:
        yield url
    finally:
        engine.terminate()
        engine.wait()


def growth(samples: Mapping[int, Sample]) -> float:
    """MiB from the small collection to the large one."""
    return samples[max(samples)].peak - samples[min(samples)].peak


def missed(found: Mapping[str, Mapping[int, Sample]]) -> list[str]:
    """What is not as it should be."""
    decision = found["decide"][max(found["decide"])]
    checks = {
        f"what is owed is known in {MOST_SECONDS:.0f} s": decision.seconds <= MOST_SECONDS,
        f"with {MOST_PEAK:.0f} MiB": decision.peak <= MOST_PEAK,
        f"memory grows by {MOST_GROWTH:.0f} MiB at most": growth(found["collect"]) <= MOST_GROWTH,
    }
    return [words for words, is_met in checks.items() if not is_met]


def as_markdown(found: Mapping[str, Mapping[int, Sample]], machine: str) -> str:
    """The table."""
    small, large = sorted(found["collect"])
    lines = [f"| | {small:,} rollouts | peak | {large:,} rollouts | peak | growth |", "|---|--:|--:|--:|--:|--:|"]
    for action, title in ACTIONS.items():
        cells = [f"{each.seconds:.1f} s | {each.peak:.0f} MB" for each in (found[action][small], found[action][large])]
        lines.append(f"| {title} | {' | '.join(cells)} | {growth(found[action]):.0f} MB |")
    note = (
        f"Rows of about 2 KB, 16 to a prompt. {small:,} rollouts of one message are collected in either case, from the "
        "fake engine without latency; the other rows lay there, repeat by repeat, written by a generator. What is owed "
        "is asked while those are missing, and whether prompts have changed. Seconds hold the start of Python."
    )
    return "\n".join([*lines, "", f"{machine}.", note, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--small", type=int, default=10_000, metavar="N", help="rollouts (default: 10,000)")
    parser.add_argument("--large", type=int, default=1_000_000, metavar="N", help="rollouts (default: 1,000,000)")
    parser.add_argument("--dir", metavar="DIR", help="where to work: a local disk (default: that of temporaries)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    machine = describe_machine()
    scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=options.dir))
    try:
        check_room(scratch, COPIES * options.large)
        found = measure(scratch, (options.small, options.large))
    finally:
        shutil.rmtree(scratch)
    report(found, machine, options.out / "rollouts_memory")
    return int(bool(missed(found)))


def report(found: Mapping[str, Mapping[int, Sample]], machine: str, path: Path) -> None:
    """Print the table and what missed its goal; write it as `path`.md, and every sample as `path`.json."""
    rows = {action: {str(count): asdict(each) for count, each in samples.items()} for action, samples in found.items()}
    content = {"schema": 1, "machine": machine, "missed": missed(found), "rows": rows}
    write_results(path, as_markdown(found, machine), missed(found), content)


if __name__ == "__main__":
    sys.exit(main())
