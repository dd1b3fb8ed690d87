"""Delete what a stage made; a tombstone keeps plans from doing the work again."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME", help="names, homes or keys of stages")
    parser.add_argument("--reason", default="no reason given", metavar="TEXT", help="kept in the tombstone")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    import sys

    from holdfast.core.errors import UserError
    from holdfast.execute import stop
    from holdfast.execute.scheduler import open_store
    from holdfast.pipelines import stored

    store = open_store(options.root)
    records = stored.records_of(options.name, store)
    for record in records:
        print(f"{record.name}: {store.home(record)}", file=sys.stderr)
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError(f"{len(records)} stages would be deleted, and nobody is there to ask", "say --yes")
        if input("delete? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    for record in records:
        stop.remove(store, record, options.reason)
    return 0
