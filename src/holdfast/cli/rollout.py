"""Collect rollouts: exactly N of each prompt, whatever dies; and see, score, change and hand on what was collected."""

from __future__ import annotations

import argparse
import importlib

from holdfast.cli.tokens import Parser, add_verb

VERBS = ("run", "owed", "analyze", "view", "rescore", "export", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=Parser)
    for name in VERBS:
        module = importlib.import_module(f"holdfast.cli.rollout_{name}")
        add_verb(verbs, name, module).set_defaults(work=module.run)


def run(options: argparse.Namespace) -> int:
    return int(options.work(options))
