"""Measures the conversion of a DCP checkpoint of 4 ranks to safetensors, beside what people use and beside `cp`.

    make bench-convert                            2 GB, about five minutes
    make bench-convert ARGS='--gigabytes 2 8'     8 GB, too: 30 GB of disk and 20 GB of memory (for a peer)

The checkpoints are written by torch itself, in 4 gloo processes: bf16, most matrices sharded by rows, two of each layer
by columns. Every round runs ours next to each peer. Ours does all that a conversion owes: it checks the CRC-32 of each
chunk, syncs each file to disk and digests it (blake3) as it lies there; `cp` is followed by a sync of its file system,
the others sync what they made, too. Warm: the checkpoint is in the page cache; cold: it was dropped from it. Peak
memory is `ru_maxrss` of the process. Writes `bench/results/convert.json` and `convert.md`.
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

WORKLOAD = str(HERE / "dcp_workload.py")
RANKS = 4
MOST_FAULTED = 8 * 10**9
NOTE = (
    "Checkpoints of 4 gloo ranks, written by torch, two of seven matrices sharded by columns. Ours checks each chunk's "
    "CRC-32, syncs and digests every file; cp is followed by `sync -f`; the recipes with torch sync their "
    "output. Free memory is touched before each run; 8 GB are measured twice. Seconds hold the start of Python, and "
    "where it is used the import of torch."
)


@dataclass
class Conversion(Row):
    """A row with a goal for memory (MiB), and whether the checkpoint is to be in the page cache."""

    most_peak: float | None = None
    source: str = ""
    is_cold: bool = False

    @property
    def is_met(self) -> bool | None:
        peak = max((sample.peak for sample in self.samples), default=0.0)
        if self.most_peak is not None and peak > self.most_peak:
            return False
        return None if self.ratio is None or self.most_ratio is None else self.ratio <= self.most_ratio


def make_rows(gigabytes: float, *, is_first: bool) -> list[Conversion]:
    """What is measured of a checkpoint of this size, and against what; the cast and the slowest only of the first."""
    torch = _workload("dcp_to_torch_save + save_file", "torch", "bf16")
    stream = _workload("dcp.load, an output file at a time", "stream", "bf16")
    rows = []
    for is_cold in (False, True):
        title = f"{gigabytes:g} GB, {'cold' if is_cold else 'warm'}"
        peers = [(torch, 1 / 8), (_copy("bf16"), 1.0), (stream, None)]
        for peer, most in peers if is_first else peers[:2]:
            ours = _workload(title, "ours", "bf16")
            rows.append(Conversion(ours, peer, most_ratio=most, most_peak=64, source="bf16", is_cold=is_cold))
    if is_first:
        ours = _workload(f"{2 * gigabytes:g} GB of fp32 cast to bf16, warm", "ours", "fp32", "BF16")
        rows.append(Conversion(ours, _copy("fp32"), most_ratio=2.0, most_peak=256, source="fp32"))
    return rows


def _workload(title: str, action: str, source: str, *arguments: str) -> Program:
    return Program(title, (sys.executable, WORKLOAD, action, source, "out", *arguments))


def _copy(source: str) -> Program:
    return Program("cp -r, sync -f", ("sh", "-c", f"cp -r {source} out && sync -f out"))


def prepare(directory: Path, gigabytes: float, *, is_first: bool) -> None:
    """Write the checkpoints."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", WORKLOAD)
    wanted = [("bf16", gigabytes, "bfloat16"), ("fp32", 2 * gigabytes, "float32")]
    for name, size, dtype in wanted if is_first else wanted[:1]:
        command = (*torchrun, "write", str(directory / name), str(size), dtype)
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def settle(directory: Path, source: str, *, is_cold: bool) -> None:
    """Remove the last output, wait for the disk, and bring the checkpoint into the page cache or out of it."""
    shutil.rmtree(directory / "out", ignore_errors=True)
    os.sync()
    paths = list((directory / source).iterdir())
    _fault_in(min(sum(path.stat().st_size for path in paths), MOST_FAULTED))
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            if is_cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(2**22):
                    pass


def _fault_in(size: int) -> None:
    """Touch free memory: a virtual machine gives back what was freed, and whoever is next would pay for it."""
    touch = f"import mmap; memory = mmap.mmap(-1, {size}); memory[::mmap.PAGESIZE] = bytes(-(-{size} // mmap.PAGESIZE))"
    subprocess.run([sys.executable, "-c", touch], check=True)


def measure(rows: Sequence[Conversion], directory: Path, rounds: int, *, is_first: bool) -> None:
    """Fill in the samples; of the first size after one round of the warm rows that is not counted, of others twice."""
    for number in range(rounds + 1) if is_first else (1, 2):
        for row in rows:
            if not number and row.is_cold:
                continue
            for program, samples in ((row.ours, row.samples), (row.peer, row.peers)):
                assert program
                settle(directory, row.source, is_cold=row.is_cold)
                sample = run(program, directory, number)
                if number:
                    samples.append(sample)
        print(f"round {number} of {rounds}" + (" (warm-up, not counted)" if not number else ""), file=sys.stderr)


def check_room(directory: Path, sizes: Sequence[float]) -> None:
    """
    Raises:
        SystemExit: the disk has not enough room for checkpoints and copies of them.
    """
    needs = max([sizes[0] * 7, *(size * 4 for size in sizes[1:])]) * 1e9
    free = shutil.disk_usage(directory).free
    if free < needs:
        sys.exit(f"{directory} has {free / 1e9:.0f} GB free, {needs / 1e9:.0f} GB are needed: use --dir or --gigabytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "--gigabytes",
        type=float,
        nargs="+",
        default=[2],
        metavar="N",
        help="sizes; all but the first are measured twice (default: 2)",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="counted runs of each command (default: 3)")
    parser.add_argument("--dir", metavar="DIR", help="where to work: a local disk (default: that of temporaries)")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where the results go")
    options = parser.parse_args()
    machine = describe_machine()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows: list[Conversion] = []
    for number, gigabytes in enumerate(options.gigabytes):
        scratch = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir=options.dir))
        try:
            check_room(scratch, options.gigabytes)
            prepare(scratch, gigabytes, is_first=not number)
            of_size = make_rows(gigabytes, is_first=not number)
            measure(of_size, scratch, options.rounds, is_first=not number)
            rows += of_size
        finally:
            shutil.rmtree(scratch)
    report(rows, machine, NOTE, options.out / "convert")
    return 0


if __name__ == "__main__":
    sys.exit(main())
