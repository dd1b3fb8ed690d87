"""Measures the core beside what people use today: each command as a process of its own, all of them in turn.

    make bench                                 everything, 10,000 stages, about four minutes
    make bench ARGS='--stages 1000 --rounds 2'

Every round runs every command once, ours next to its peer, so that both see the same machine; what counts is the median
and the ratio round by round. Peak memory is `ru_maxrss` of the child. Peers live in an environment of their own, whose
Python is HOLDFAST_BENCH_PYTHON; without it only we are measured. Writes `bench/results/core.json` and `core.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOLDFAST = "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli.main import main; sys.exit(main())"
STILL_OWED = 3
NOTE = (
    "Half of the stages are complete, with 20 files each; Snakemake's jobs have "
    "one file each, and half of them are done. Peak memory below 16 MB is that of the program that measures."
)
BARE = "import argparse; p = argparse.ArgumentParser(); p.add_argument('file'); p.add_argument('--dry'); p.parse_args()"
HYDRA = """\
import hydra

@hydra.main(version_base=None, config_path=None)
def main(cfg): ...

main()
"""
SNAKEFILE = """\
runs = [f"run_{{n:05d}}" for n in range({chains})]

rule all:
    input: expand("evals/{{run}}", run=runs){rest}

rule train:
    output: "training_runs/{{run}}"
    params: steps=150, lr=1e-6
    shell: "touch {{output}}"

rule convert:
    input: "training_runs/{{run}}"
    output: "hf_eval_checkpoints/{{run}}"
    shell: "touch {{output}}"

rule evaluate:
    input: "hf_eval_checkpoints/{{run}}"
    output: "evals/{{run}}"
    shell: "touch {{output}}"
"""


@dataclass(frozen=True)
class Program:
    """A command. `timed_inside`: it prints its own seconds, because its start is not what is measured. `{round}` in a
    token becomes the number of the round.
    """

    title: str
    command: tuple[str, ...]
    timed_inside: bool = False
    code: int = 0


@dataclass(frozen=True)
class Sample:
    """One run: wall and CPU (user and system) in seconds, peak memory in MiB."""

    seconds: float
    cpu: float
    peak: float


@dataclass
class Row:
    """Something of ours, what it is measured against, and the goal: seconds, or times the peer."""

    ours: Program
    peer: Program | None = None
    most_seconds: float | None = None
    most_ratio: float | None = None
    samples: list[Sample] = field(default_factory=list)
    peers: list[Sample] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        pairs = [ours.seconds / peer.seconds for ours, peer in zip(self.samples, self.peers, strict=False)]
        return median(pairs) if pairs else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where it was not measured."""
        if self.most_seconds is not None:
            return median([sample.seconds for sample in self.samples]) <= self.most_seconds
        return None if self.ratio is None or self.most_ratio is None else self.ratio <= self.most_ratio

    def as_dict(self) -> dict[str, object]:
        return {
            "title": self.ours.title,
            "peer": self.peer.title if self.peer else None,
            "ratio": self.ratio,
            "most_seconds": self.most_seconds,
            "most_ratio": self.most_ratio,
            "is_met": self.is_met,
            "samples": [asdict(sample) for sample in self.samples],
            "peers": [asdict(sample) for sample in self.peers],
        }


def median(values: Sequence[float]) -> float:
    """Of the middle two the lower: no figure that was never measured."""
    return sorted(values)[(len(values) - 1) // 2]


def run(program: Program, directory: Path, number: int) -> Sample:
    """Run a program once and wait for it.

    Raises:
        RuntimeError: it ended with another code than it should.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        "PYTHONPYCACHEPREFIX": str(directory / "pycache"),  # the warm-up round compiles everybody's modules into it
        "XDG_CACHE_HOME": str(directory / "cache"),
    }
    command = [token.replace("{round}", str(number)) for token in program.command]
    with open(directory / "output", "w+b") as output, open(directory / "errors", "w+b") as errors:
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != program.code:
        raise RuntimeError(
            f"{program.title} ended with {child.returncode}: {(directory / 'errors').read_text()[-2000:]}"
        )
    if program.timed_inside:
        seconds = json.loads((directory / "output").read_text())["seconds"]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def measure(rows: Sequence[Row], directory: Path, rounds: int) -> None:
    """Fill in the samples, after one round that is not counted. A peer of several rows runs once a round."""
    for number in range(rounds + 1):
        seen: dict[str, Sample] = {}
        for row in rows:
            ours = run(row.ours, directory, number)
            if row.peer and row.peer.title not in seen:
                seen[row.peer.title] = run(row.peer, directory, number)
            if number:
                row.samples.append(ours)
                if row.peer:
                    row.peers.append(seen[row.peer.title])
        print(f"round {number} of {rounds}" + (" (warm-up, not counted)" if not number else ""), file=sys.stderr)


def make_rows(stages: int, written: int, peer_python: str | None) -> list[Row]:
    """What is measured, and against what."""
    bare = Program("bare argparse program", (sys.executable, "-c", BARE, "--help"))
    hydra = snakemake = None
    if peer_python:
        options = ("hydra.run.dir=hydra_run", "hydra.output_subdir=null")
        hydra = Program("empty Hydra app", (peer_python, "hydra_app.py", *options))
        flags = (
            "--dry-run",
            "--quiet",
            "all",
            "--cores",
            "1",
            "--rerun-triggers",
            "mtime",
            "--snakefile",
            "snakemake/Snakefile",
        )
        snakemake = Program(
            f"Snakemake dry run of {stages:,} jobs",
            (peer_python, "-m", "snakemake", *flags, "--directory", "snakemake"),
        )
    plan, status = ("run", "plan.yaml", "--dry"), ("status",)
    many = f"{stages:,} stages"
    return [
        Row(_holdfast("holdfast --help", "--help"), bare, most_ratio=2.0),
        Row(_holdfast("dry plan of 3 stages", "run", "small.yaml", "--dry"), hydra, most_ratio=1.0),
        Row(_holdfast(f"dry plan of {many}", *plan), snakemake, 1.5),
        Row(_holdfast(f"dry plan of {many}, --json", *plan, "--json"), snakemake, 1.5),
        Row(_holdfast(f"status of {many}", *status), snakemake, 1.5),
        Row(_holdfast(f"status of {many}, --json", *status, "--json"), snakemake, 1.5),
        Row(_workload(f"standings() of {many}, alone", "standings", "."), snakemake, 1.5),
        Row(
            _workload(f"{written:,} planned stages written, one sync", "write", "one_{round}", str(written)),
            _workload("the same, one fsync for each file and directory", "write-each", "each_{round}", str(written)),
            1.5,
        ),
    ]


def _holdfast(title: str, *arguments: str) -> Program:
    root = () if arguments == ("--help",) else ("--root", "root")
    code = STILL_OWED if arguments[0] == "status" else 0
    return Program(title, (sys.executable, "-c", HOLDFAST, *arguments, *root), code=code)


def _workload(title: str, *arguments: str) -> Program:
    return Program(title, (sys.executable, str(HERE / "workload.py"), *arguments), timed_inside=True)


def prepare(directory: Path, stages: int) -> None:
    """Make our root, and for the peers an app and a work flow of the same shape, half of it done."""
    command = [sys.executable, str(HERE / "workload.py"), "prepare", str(directory), str(stages)]
    subprocess.run(command, check=True)
    (directory / "hydra_app.py").write_text(HYDRA)
    chains = stages // 3
    names = [f"{folder}/run_{n // 3:05d}" for n in range(stages) for folder in [_folder(n)]]
    flow = directory / "snakemake"
    for folder in ("training_runs", "hf_eval_checkpoints", "evals"):
        (flow / folder).mkdir(parents=True)
    rest = "".join(f', "{name}"' for name in names[3 * chains :][-1:])
    (flow / "Snakefile").write_text(SNAKEFILE.format(chains=chains, rest=rest))
    for number, name in enumerate(names[: stages // 2]):
        (flow / name).touch()
        os.utime(flow / name, (time.time() - 3600 + number % 3, time.time() - 3600 + number % 3))


def _folder(number: int) -> str:
    return ("training_runs", "hf_eval_checkpoints", "evals")[number % 3]


def as_markdown(rows: Sequence[Row], machine: str, note: str) -> str:
    """The table that the README quotes."""
    lines = ["| | Holdfast | peak | beside it | | peak | ratio |", "|---|--:|--:|---|--:|--:|--:|"]
    for row in rows:
        beside = "| | | |"
        if row.peer and row.ratio is not None:
            beside = f"{row.peer.title} | {_figures(row.peers)} | {_times(row.ratio)} |"
        lines.append(f"| {row.ours.title} | {_figures(row.samples)} | {beside}")
    rounds = f"{machine}. Medians of {len(rows[0].samples)} rounds, everything in turn."
    return "\n".join([*lines, "", rounds, note, ""])


def _figures(samples: Sequence[Sample]) -> str:
    wall, peak = median([each.seconds for each in samples]), median([each.peak for each in samples])
    return f"{_seconds(wall)} | {peak:.0f} MB"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio > 0.1 else f"1 / {1 / ratio:.0f}"


def describe_machine() -> str:
    """Enough to compare figures with, and nothing that names the machine."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores (load {load:.1f} at the start), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--stages", type=int, default=10_000, metavar="N", help="of the large plan (default: 10,000)")
    parser.add_argument("--written", type=int, default=1_000, metavar="N", help="stages to write (default: 1,000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="counted runs of each command (default: 5)")
    parser.add_argument(
        "--dir", metavar="DIR", help="where to work: a local disk (default: the directory for temporaries)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    peer_python = os.environ.get("HOLDFAST_BENCH_PYTHON")
    if not peer_python:
        print("HOLDFAST_BENCH_PYTHON is not set: Hydra and Snakemake are left out", file=sys.stderr)
    machine = describe_machine()
    rows = make_rows(options.stages, options.written, peer_python)
    scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=options.dir))
    try:
        prepare(scratch / "work", options.stages)
        measure(rows, scratch / "work", options.rounds)
    finally:
        shutil.rmtree(scratch)
    report(rows, machine, NOTE, options.out / "core")
    return 0


def report(rows: Sequence[Row], machine: str, note: str, path: Path) -> None:
    """Print the table and what missed its goal; write it as `path`.md, and every sample as `path`.json."""
    missed = [row.ours.title for row in rows if row.is_met is False]
    content = {"schema": 1, "machine": machine, "rows": [row.as_dict() for row in rows]}
    write_results(path, as_markdown(rows, machine, note), missed, content)


def write_results(path: Path, table: str, missed: Sequence[str], content: Mapping[str, Any]) -> None:
    """Print the table and what missed its goal; write the table as `path`.md, and the content as `path`.json."""
    print(table)
    for title in missed:
        print(f"missed: {title}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(table)
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
