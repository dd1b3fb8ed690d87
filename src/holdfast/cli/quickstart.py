"""Watch a small model learn, be stopped, evaluated and resumed, on this machine."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", metavar="A,B", help="seeds of the two runs (default: drawn once, and kept in quickstart.yaml)"
    )


def run(options: argparse.Namespace) -> int:
    raise NotImplementedError
