"""Show what is complete, in flight, or owed, and why."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="names, homes or keys (default: every stage of the root)"
    )
    parser.add_argument(
        "--watch", action="store_true", help="show it again every two seconds until nothing is in flight"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON list with key, name, kind, state, reason, attempt, job, progress, home",
    )


def run(options: argparse.Namespace) -> int:
    from holdfast.cli import progress, table
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import stored

    store = open_store(options.root)
    if options.watch:
        progress.watch(lambda: stored.standings_of(options.name, store))
    found = stored.standings_of(options.name, store)
    table.show(found, as_json=options.json)
    return table.exit_code(found)
