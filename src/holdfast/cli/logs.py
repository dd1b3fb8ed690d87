"""Show what a stage printed, and follow it."""

from __future__ import annotations

import argparse

from holdfast.cli.tokens import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name, home or key of a stage")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
    parser.add_argument(
        "-n", "--lines", type=positive, default=50, metavar="N", help="how many lines to begin with (default: 50)"
    )
    parser.add_argument("--attempt", type=int, metavar="N", help="which attempt (default: the newest)")
    parser.add_argument("--service", metavar="NAME", help="the log of a service of this attempt instead")


def run(options: argparse.Namespace) -> int:
    from holdfast.execute import output
    from holdfast.execute.scheduler import open_store

    store = open_store(options.root)
    record = store.find(options.name)
    claim = output.find_attempt(store, record, options.attempt)
    log = output.log_of(claim, options.service)
    for line in output.follow(claim, log, options.lines) if options.follow else output.tail(log, options.lines):
        print(line, flush=options.follow)
    return 0
