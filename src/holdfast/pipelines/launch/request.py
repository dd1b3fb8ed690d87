"""What a person asks of `holdfast launch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.core.errors import ConfigError
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.sweeps import space
from holdfast.sweeps.space import Sweep


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
    key that the config does not have is no mistake. `executor` (`local` or `slurm`) and `time` are settled in
    `pipelines.placing`. `folder` is where below the root the names are, `usual_name` the name without `jobname` (empty:
    the script's), `inputs` are made elsewhere, by stages or, those in `adopted`, by others.
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
    script = _agree("script", request.script, sweep.script if sweep else None)
    if script is None:
        raise ConfigError(
            "no script is given, neither by --script nor by `script_path` in a sweep",
            "give --script path/to/script.py, or add `script_path: path/to/script.py` to the sweep",
        )
    if not Path(script).is_file():
        raise ConfigError(f"there is no script at {script} (from {Path.cwd()})", "give the path of a Python file")
    return Program(script, config_file(request, sweep), sweep)


def config_file(request: Request, sweep: Sweep | None) -> str | None:
    """The config, None without one.

    Raises:
        ConfigError: command line and sweep name different ones, or it is not there.
    """
    chosen = _agree("config", request.config, sweep.config if sweep else None)
    if chosen is not None and not Path(chosen).is_file():
        raise ConfigError(f"there is no config at {chosen} (from {Path.cwd()})", "give the path of a YAML file")
    return chosen


def _agree(what: str, given: str | None, swept: str | None) -> str | None:
    """Script or config, of which command line and sweep may each say one."""
    if given is not None and swept is not None and Path(given).resolve() != Path(swept).resolve():
        raise ConfigError(
            f"Command line {what} '{given}' does not match sweep config {what}_path '{swept}'",
            f"remove --{what}, or `{what}_path` from the sweep, or let both say the same path",
        )
    return given if given is not None else swept
