"""Write published rollouts as NeMo Gym's files, as Parquet, or as a directory that `datasets` loads."""

from __future__ import annotations

import argparse

FORMATS = ("nemo-gym", "parquet", "dataset")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the rollouts: name, home, key, directory or file")
    parser.add_argument("out", metavar="DIR", help="a directory that is not there yet, or is empty")
    parser.add_argument("--to", choices=FORMATS, default="nemo-gym", help="default: nemo-gym")


def run(options: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.rollouts import derived, exports

    source = derived.published(options.name, open_store(options.root))
    count = exports.export(source, Path(options.out), options.to)
    print(f"{count:,} rollouts from {source}", file=sys.stderr)
    print(options.out)
    return 0
