"""Measures a sweep of 1,000 points on a real SLURM: by Holdfast, by 1,000 sbatch one after another, and by submitit.

    make bench-launch
    make bench-launch ARGS='--points 100 --rounds 2'

The cluster is the tests' own (`tests/slurm/cluster.py`), on this machine, with its nodes drained: what is measured is
submission, and not how fast processes start here. A busy cluster answers far more slowly, which makes fewer calls worth
more. Holdfast's seconds hold the start of the interpreter and everything made durable; those of its peers hold their
calls alone, without that start. Writes `bench/results/launch.json` and `launch.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.core import HOLDFAST, STILL_OWED, Program, Row, describe_machine, measure, report  # noqa: E402
from tests.slurm import cluster as parts  # noqa: E402
from tests.slurm.cluster import NODES, missing_parts, running  # noqa: E402

LARGEST_ARRAY = 1001  # SLURM's own default; the tests' cluster has a smaller one
SUBMITIT = """
import json, subprocess, sys, time
import submitit
def point(number): return number
start = time.perf_counter()
executor = submitit.SlurmExecutor(folder=sys.argv[1])
executor.update_parameters(time=10, array_parallelism=int(sys.argv[2]))
jobs = executor.map_array(point, range(int(sys.argv[2])))
print(json.dumps({"seconds": time.perf_counter() - start}))
subprocess.run(["scancel", jobs[0].job_id.partition("_")[0]], check=True)
"""
SBATCH = """
import json, subprocess, sys, time
start = time.perf_counter()
tokens = ["sbatch", "--parsable", "--output=/dev/null", "--wrap=true"]
submit = lambda: subprocess.run(tokens, check=True, capture_output=True, text=True).stdout.strip()
ids = [submit() for _ in range(int(sys.argv[1]))]
print(json.dumps({"seconds": time.perf_counter() - start}))
subprocess.run(["scancel", *ids], check=True)
"""
NOTE = (
    "On the tests' own cluster of four nodes (drained), with SLURM's default MaxArraySize. Holdfast's seconds hold the "
    "start of the interpreter and everything made durable; those of sbatch and submitit hold their calls alone."
)


def make_rows(points: int, peer_python: str | None) -> list[Row]:
    """What is measured, and against what."""
    launch = ("launch", "--script", "point.py", "--sweep", "sweep.yaml", "--account", "me", "--container", "none")
    many = f"{points:,}"
    each = Program(f"{many} sbatch, one after another", (sys.executable, "-c", SBATCH, str(points)), timed_inside=True)
    listing = Program("squeue of the same, a line each", ("squeue", "--me", "-r", "-h"))
    rows = [Row(_holdfast(f"sweep of {many} points launched", "root", *launch), each, most_seconds=2.0)]
    if peer_python:
        command = (peer_python, "-c", SUBMITIT, "submitit_{round}", str(points))
        array = Program(f"submitit map_array of {many}", command, timed_inside=True)
        rows.append(Row(_holdfast("the same in another root", "other", *launch), array, most_seconds=2.0))
    again = _holdfast("the same again: all queued, nothing to submit", "root", *launch)
    status = _holdfast(f"status of {many} queued points", "root", "status", code=STILL_OWED)
    return [*rows, Row(again), Row(status, listing, most_seconds=0.5)]


def _holdfast(title: str, root: str, *arguments: str, code: int = 0) -> Program:
    where = ("--root", f"{root}_{{round}}")
    return Program(title, (sys.executable, "-c", HOLDFAST, *arguments, *where), code=code)


def prepare(directory: Path, points: int) -> None:
    """Make what the commands name."""
    (directory / "holdfast.yaml").write_text("slurm: {executor: slurm}\n")
    (directory / "point.py").write_text("")
    (directory / "sweep.yaml").write_text(json.dumps({"lr": [n / points for n in range(points)]}))


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000, metavar="N", help="of the sweep (default: 1,000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="counted runs of each command (default: 5)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    if reason := missing_parts():
        print(f"no cluster: {reason}", file=sys.stderr)
        return 1
    machine = describe_machine()
    rows = make_rows(options.points, os.environ.get("HOLDFAST_BENCH_PYTHON"))
    parts.MAX_ARRAY_SIZE = LARGEST_ARRAY
    with running() as cluster, tempfile.TemporaryDirectory(prefix="bench-launch-") as directory:
        os.environ.update(cluster.environment)
        for node in NODES:
            cluster.drain(node)
        prepare(Path(directory), options.points)
        measure(rows, Path(directory), options.rounds)
    report(rows, machine, NOTE, options.out / "launch")
    return 0


if __name__ == "__main__":
    sys.exit(main())
