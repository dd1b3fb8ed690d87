"""Say why a stage is owed or failed, with the lines that matter, and what to type next."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name, home or key of a stage")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(options: argparse.Namespace) -> int:
    import json
    from dataclasses import replace

    from holdfast.cli import root
    from holdfast.execute import explain
    from holdfast.execute.scheduler import open_store

    store = open_store(options.root)
    found = explain.account(store, store.find(options.name))
    account = replace(found, next=[root.keep(command, options.typed_root) for command in found.next])
    if options.json:
        print(json.dumps(account.as_dict(), indent=1, ensure_ascii=False))
        return 0
    print(account.text())
    for number, command in enumerate(account.next):
        print(f"      {command}" if number else f"\nnext: {command}")
    return 0
