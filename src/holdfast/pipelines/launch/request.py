"""What a person asks of `holdfast launch`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core.errors import ConfigError, UserError
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.execute import sbatch
from holdfast.execute.choose import ClusterDefaults
from holdfast.sweeps import space
from holdfast.sweeps.space import Sweep

DEFAULT_TIME = "4:0:0"
DEFAULT_PARTITION = "batch"
DEFAULT_MOUNTS = "/lustre:/lustre"
NO_CONTAINER = "none"


@dataclass(frozen=True)
class Input:
    """What a program takes in that another stage makes: the override `key` gets its `path`, its contents count."""

    name: str
    key: str
    ref: Ref
    path: Path


@dataclass(frozen=True)
class Request:
    """One command line. `tokens` are forwarded to the script, and after them `behind`: what stood behind `--`, where a
    key that the config does not have is no mistake. `executor` is settled: `local` or `slurm`. `folder` is where below
    the root the names are, `usual_name` the name without `jobname` (empty: the script's), `inputs` are made elsewhere,
    by stages or, those in `adopted`, by others.
    """

    script: str | None = None
    config: str | None = None
    sweep: str | None = None
    tokens: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    jobname: str | None = None
    nodes: int | None = None
    gpus: int | None = None
    time: str | None = None
    account: str | None = None
    partition: str | None = None
    container: str | None = None
    mounts: str | None = None
    launcher: str | None = None
    profile: str | None = None
    env: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()
    interpreter: str | None = None
    snapshot: bool = False
    new: bool = False
    dry: bool = False
    executor: str = "local"
    folder: str = ""
    usual_name: str = ""
    inputs: tuple[Input, ...] = ()
    adopted: tuple[Record, ...] = ()

    @property
    def forwarded(self) -> tuple[str, ...]:
        return (*self.tokens, *self.behind)


@dataclass(frozen=True)
class Program:
    """What is launched: paths as they were written, and the sweep over it."""

    script: str
    config: str | None
    sweep: Sweep | None


def program(request: Request) -> Program:
    """Script, config and sweep, of which command line and sweep file may each say a part.

    Raises:
        ConfigError: they contradict each other, or nobody names a script.
    """
    sweep = space.read(Path(request.sweep)) if request.sweep else None
    script = agree("script", request.script, sweep.script if sweep else None)
    if script is None:
        raise ConfigError(
            "no script is given, neither by --script nor by `script_path` in a sweep",
            "give --script path/to/script.py, or add `script_path: path/to/script.py` to the sweep",
        )
    if not Path(script).is_file():
        raise ConfigError(f"there is no script at {script} (from {Path.cwd()})", "give the path of a Python file")
    chosen = agree("config", request.config, sweep.config if sweep else None)
    if chosen is not None and not Path(chosen).is_file():
        raise ConfigError(f"there is no config at {chosen} (from {Path.cwd()})", "give the path of a YAML file")
    return Program(script, chosen, sweep)


def agree(what: str, given: str | None, swept: str | None) -> str | None:
    """Script or config, of which command line and sweep may each say one.

    Raises:
        ConfigError: they say different ones.
    """
    if given is not None and swept is not None and Path(given).resolve() != Path(swept).resolve():
        raise ConfigError(
            f"Command line {what} '{given}' does not match sweep config {what}_path '{swept}'",
            f"remove --{what}, or `{what}_path` from the sweep, or let both say the same path",
        )
    return given if given is not None else swept


def check_numbers(request: Request, max_parallel: int | None) -> None:
    """
    Raises:
        UserError: a number that cannot be.
    """
    for flag, value, least in (
        ("--nodes", request.nodes, 1),
        ("--gpus", request.gpus, 0),
        ("--max-parallel", max_parallel, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{flag} is {value}, expected a number from {least}", f"for example {flag} {least}")


def check_cluster(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str], *, has_root: bool) -> None:
    """Everything that a cluster needs and nobody said, at once.

    Raises:
        UserError: names each variable with what else would do.
    """
    said = {
        "LOG": has_root or environ.get("LOG"),
        "ACCOUNT": request.account or defaults.account or environ.get("ACCOUNT"),
        "CON": _container_is_settled(request.container or defaults.container)
        or defaults.containers
        or environ.get("CON"),
    }
    instead = {"LOG": "--root", "ACCOUNT": "--account", "CON": f"--container /path, or --container {NO_CONTAINER}"}
    absent = [name for name, value in said.items() if not value]
    if absent:
        raise UserError(
            f"not set, and needed to launch on SLURM: {', '.join(absent)}",
            "export "
            + " ".join(f"{name}=..." for name in absent)
            + f" (or {'; '.join(instead[name] for name in absent)})",
        )


def _container_is_settled(name: str | None) -> bool:
    return name is not None and (name == NO_CONTAINER or _is_address(name))


def _is_address(name: str) -> bool:
    """An absolute path, or a name that a registry knows: `nvcr.io/nvidia/x`, `docker://x`, `a#b`, `image:tag`."""
    host = re.split("[/#]", name)[0]
    return name.startswith(("/", "./", "../")) or "#" in name or ":" in name or ("/" in name and "." in host)


def container(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str]) -> str:
    """The container's path or address, empty for none: a bare name is in `$CON`."""
    name = request.container or defaults.container
    if name is None or name == NO_CONTAINER:
        return ""
    if _is_address(name):
        return name
    folder = environ.get("CON") or defaults.containers
    return f"{folder}/{name}" if folder else name


def placement_fields(request: Request, defaults: ClusterDefaults, environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `execute.submit.Placement` that all points share."""
    time = str(request.time or defaults.time or DEFAULT_TIME)
    sbatch.seconds(time)
    return {
        "lead": defaults.lead,
        "max_time": str(defaults.max_time or ""),
        "executor": request.executor,
        "trackers": request.trackers,
        "time": time,
        "account": request.account or defaults.account or environ.get("ACCOUNT", ""),
        "partition": request.partition or defaults.partition or DEFAULT_PARTITION,
        "container": container(request, defaults, environ),
        "mounts": request.mounts or defaults.mounts or DEFAULT_MOUNTS,
        "setup": (*defaults.setup, *request.setup),
        "sbatch_args": (*defaults.sbatch_args, *request.sbatch_args),
        "env": (*defaults.env, *(each for each in request.env if "=" not in each)),
    }
