"""Send metrics that a tracker still lacks; typed again, it sends nothing twice."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME", help="names, homes or keys of stages")
    parser.add_argument(
        "--tracker",
        action="append",
        default=[],
        metavar="NAME",
        help="wandb, tensorboard, files, or package.module:Class; repeatable (default: those the stage ran with)",
    )
    parser.add_argument("--again", action="store_true", help="send all of it once more, to W&B as a new run")


def run(options: argparse.Namespace) -> int:
    import os
    import sys

    from holdfast.execute.scheduler import open_store
    from holdfast.trackers import show

    store = open_store(options.root)
    codes = [0]
    for record in [store.find(name) for name in options.name]:
        for result in show.send(store, record, options.tracker, os.environ, again=options.again):
            print(f"{record.name}: {result.tracker}: {result.words}", file=sys.stderr if result.code else sys.stdout)
            codes.append(result.code)
    return 1 if 1 in codes else max(codes)
