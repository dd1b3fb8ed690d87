"""The flags of launch, evaluate and rollout run that say where it runs, and what such a command line asks for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.pipelines.launch.request import Request


def add_arguments(parser: argparse.ArgumentParser, usual_time: str) -> None:
    parser.add_argument("--nodes", type=int, metavar="N", help="nodes (default: from the config, or 1)")
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        help="GPUs of each node (default: from the config, 8 on SLURM, here what it can use)",
    )
    parser.add_argument("--time", metavar="H:M:S", help=f"time limit on SLURM (default: {usual_time})")
    parser.add_argument("--account", metavar="NAME", help="SLURM account (default: $ACCOUNT)")
    parser.add_argument("--partition", metavar="NAME", help="SLURM partition (default: batch)")
    parser.add_argument(
        "--container", metavar="NAME", help="a path, a registry's name, a file in $CON, or none for no container"
    )
    parser.add_argument("--mounts", metavar="FROM:TO", help="mounts of the container (default: /lustre:/lustre)")
    parser.add_argument(
        "--setup", action="append", default=[], metavar="LINE", help="a line of shell before it on SLURM"
    )
    parser.add_argument("--sbatch-arg", action="append", default=[], metavar="ARG", help="one more argument for sbatch")
    parser.add_argument(
        "--executor", choices=("auto", "local", "slurm"), help="who runs it (default: SLURM where there is sbatch)"
    )


def add_forwarded(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME", help="forward a variable by name; it is never stored"
    )


def read(options: argparse.Namespace, way_out: str) -> Request:
    """What the command line says; `way_out` is the hint about a `{token}` that is none.

    Raises:
        UserError: a word that is neither an option nor an override.
    """
    from dataclasses import fields

    from holdfast.core.errors import UserError
    from holdfast.pipelines.launch.request import Request

    if options.token:
        word = options.token[0]
        raise UserError(f"`{word}` is neither an option nor KEY=VALUE", way_out.format(token=word))
    given = {field.name: getattr(options, field.name) for field in fields(Request) if hasattr(options, field.name)}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Request(**{**given, **lists, "sbatch_args": tuple(options.sbatch_arg), "executor": "local"})
