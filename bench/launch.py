"""Measures a sweep of 1,000 points on a real SLURM: submitted by Holdfast, by 1,000 sbatch, and by submitit.

The cluster is the tests' own (`tests/slurm/cluster.py`), idle, on this machine: a busy one answers far more slowly,
which makes fewer calls worth more. Everything is on disk when a submission of Holdfast counts as done, and its seconds
hold the start of the interpreter; submitit's are those of the one call.

    python bench/launch.py [--points N] [--repeat N] [--json FILE]

`HOLDFAST_BENCH_PYTHON` is an interpreter with submitit (`requirements/bench.txt`); without it that row is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.slurm import cluster as parts  # noqa: E402
from tests.slurm.cluster import Cluster, missing_parts, running  # noqa: E402

SUBMITIT = """
import sys, time
import submitit
def point(number): return number
start = time.perf_counter()
executor = submitit.SlurmExecutor(folder=sys.argv[1])
executor.update_parameters(time=10, array_parallelism=1000)
jobs = executor.map_array(point, range(int(sys.argv[2])))
print(time.perf_counter() - start)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--array-size", type=int, default=1001, help="MaxArraySize of the cluster (default: SLURM's own)"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := missing_parts():
        print(f"no cluster: {reason}", file=sys.stderr)
        return 1
    parts.MAX_ARRAY_SIZE = options.array_size
    with running() as cluster, tempfile.TemporaryDirectory(prefix="bench-launch-") as directory:
        for node in ("n1", "n2", "n3", "n4"):
            cluster.drain(node)  # what is measured is submission, not how fast this machine starts processes
        found = measure(cluster, Path(directory), options.points, options.repeat)
    for name, seconds in found.items():
        print(f"{name:<44}{statistics.median(seconds):8.2f} s  ({', '.join(f'{each:.2f}' for each in seconds)})")
    if options.json:
        options.json.write_text(json.dumps({"points": options.points, "seconds": found}, indent=1) + "\n")
    return 0


def measure(cluster: Cluster, directory: Path, points: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of each, by name."""
    found: dict[str, list[float]] = {}
    for number in range(repeat):
        for name, seconds in _once(cluster, directory / str(number), points).items():
            found.setdefault(name, []).append(seconds)
        cluster.run("scancel", "--me")
    return found


def _once(cluster: Cluster, directory: Path, points: int) -> dict[str, float]:
    directory.mkdir()
    (directory / "holdfast.yaml").write_text("slurm: {executor: slurm}\n")
    stages = {f"p{n:04d}": {"kind": "command", "params": {"command": ["true", str(n)]}} for n in range(points)}
    (directory / "plan.yaml").write_text(json.dumps({"stages": stages}))
    seconds = {
        f"holdfast run, {points} points": _time(lambda: _hold(cluster, directory, "run", "plan.yaml")),
        f"holdfast status, {points} points": _time(lambda: _hold(cluster, directory, "status")),
        "holdfast run again (nothing to submit)": _time(lambda: _hold(cluster, directory, "run", "plan.yaml")),
        f"{points} sbatch, one after another": _time(lambda: _sbatch(cluster, directory, points)),
    }
    python = os.environ.get("HOLDFAST_BENCH_PYTHON")
    if python:
        done = cluster.run(python, "-c", SUBMITIT, str(directory / "submitit"), str(points))
        seconds[f"submitit map_array, {points} points"] = float(done.stdout.split()[-1])
    return seconds


def _time(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _hold(cluster: Cluster, directory: Path, *arguments: str) -> None:
    entry = "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli.main import main; sys.exit(main())"
    environment = {**os.environ, **cluster.environment, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        [sys.executable, "-c", entry, *arguments], cwd=directory, env=environment, capture_output=True
    )
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr.decode())


def _sbatch(cluster: Cluster, directory: Path, points: int) -> None:
    script = directory / "point.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    environment = {**os.environ, **cluster.environment}
    for _ in range(points):
        tokens = ["sbatch", "--parsable", "--output=/dev/null", str(script)]
        subprocess.run(tokens, env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
