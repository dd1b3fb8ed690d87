"""The flags that say where and how something runs; every verb that submits has them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from holdfast.cli.tokens import count, positive

if TYPE_CHECKING:
    from holdfast.execute.submit import Placement


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where and how", "Saved defaults: the section slurm of holdfast.yaml")
    group.add_argument(
        "--executor",
        choices=("auto", "local", "slurm"),
        help="who runs it (default: auto, SLURM where there is one)",
    )
    group.add_argument(
        "--max-parallel",
        type=positive,
        metavar="N",
        help="at a time (default: 1 on this machine, on SLURM what it allows)",
    )
    group.add_argument("--nodes", type=positive, metavar="N", help="nodes of each job")
    group.add_argument("--gpus", type=count, metavar="N", help="GPUs of each job, on each node")
    group.add_argument(
        "--time", metavar="H:M:S", help="limit of one allocation; work that was saved goes on in another"
    )
    group.add_argument("--max-time", metavar="H:M:S", help="limit of all allocations of a job together")
    group.add_argument("--account", metavar="NAME")
    group.add_argument("--partition", metavar="NAME")
    group.add_argument("--container", metavar="IMAGE", help="run the command in this container (Pyxis)")
    group.add_argument("--mounts", metavar="FROM:TO,...", help="mounts of the container")
    group.add_argument(
        "--launcher",
        choices=("plain", "torchrun", "ray"),
        help="start a command once, by torchrun on each node, or in a Ray",
    )
    group.add_argument("--setup", action="append", metavar="LINE", help="shell line before the work (repeatable)")
    group.add_argument(
        "--sbatch-arg", action="append", metavar="OPTION", dest="sbatch_args", help="handed on (repeatable)"
    )


def read(options: argparse.Namespace, before: Mapping[str, object], **more: object) -> Placement:
    """The placement that the flags ask for, over how it was placed `before`, over the saved config.

    Raises:
        UserError: they contradict what there is.
    """
    from holdfast.execute import choose

    names: tuple[str, ...] = (
        "max_parallel",
        "nodes",
        "gpus",
        "time",
        "max_time",
        "account",
        "partition",
        "container",
        "mounts",
    )
    names += ("launcher", "setup", "sbatch_args", "env")
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    defaults = choose.cluster_defaults()
    executor = choose.settle_name(options.executor or defaults.executor)
    return choose.place(defaults, executor, {**before, **given, **more})
