"""Say why a stage is owed or failed, with the lines that matter."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name, home or key of a stage")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(options: argparse.Namespace) -> int:
    import json

    from holdfast.execute import explain
    from holdfast.execute.scheduler import open_store

    store = open_store(options.root)
    account = explain.account(store, store.find(options.name))
    print(json.dumps(account.as_dict(), indent=1, ensure_ascii=False) if options.json else account.text())
    return 0
