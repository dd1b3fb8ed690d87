"""Take in rollouts that another program collected: NeMo Gym's, or any with a prompt, a response and a reward."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON lines")
    parser.add_argument("--jobname", metavar="NAME", help="where it goes below rollouts/ (default: the file's name)")
    parser.add_argument("--rerun", action="store_true", help="again, although it is complete")
    parser.add_argument("--json", action="store_true", help="print the standing as JSON")


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from holdfast.cli.rollout_derived import make
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines.rollouts import derived

    store = open_store(options.root)
    found = derived.plan_import(Path(options.file), store, options.jobname)
    return make(found, store, rerun=options.rerun, as_json=options.json)
