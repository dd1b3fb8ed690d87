"""Chooses who runs jobs: this machine, or SLURM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from holdfast.core.errors import ConfigError, UserError, unknown_key
from holdfast.execute import slurm_commands
from holdfast.execute.local import LocalExecutor
from holdfast.execute.slurm import SlurmExecutor
from holdfast.execute.submit import Executor, Placement

NAMES = ("auto", "local", "slurm")
NOT_SAVED = {"executor", "stop_after", "heartbeat", "silence"}
SAVED = tuple(field.name for field in fields(Placement) if field.name not in NOT_SAVED)
OTHERS = ("poll_seconds", "containers")


def settle_name(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """`local` or `slurm`; `auto` is this machine inside an allocation, or where there is no SLURM.

    Raises:
        UserError: there is no such executor.
    """
    if name not in NAMES:
        raise UserError(f"there is no executor `{name}`", f"executors: {', '.join(NAMES)}")
    if name != "auto":
        return name
    return "local" if environ.get("SLURM_JOB_ID") or not slurm_commands.is_here() else "slurm"


def choose_executor(name: str, placement: Placement) -> tuple[Executor, Placement]:
    """The executor of this name, and the placement as it is there. `auto` is this machine inside an allocation, or
    where there is no SLURM; a controller that does not answer is an error, never a reason to run something here.

    Raises:
        UserError: there is no such executor, or SLURM is wanted and does not answer.
    """
    if settle_name(name) == "slurm":
        return SlurmExecutor(), replace(placement, executor="slurm")
    return LocalExecutor(), replace(placement, executor="local", max_parallel=placement.max_parallel or 1)


def place(settings: Mapping[str, Any], given: Mapping[str, Any]) -> Placement:
    """A placement: what was `given`, over the `slurm:` section of the saved config, over our defaults.

    Raises:
        ConfigError: the saved config says something that no placement has.
    """
    saved = settings.get("slurm") or {}
    if not isinstance(saved, Mapping):
        raise ConfigError(
            f"`slurm` in the saved config is {saved!r}, expected a mapping", "write `slurm: {account: ...}`"
        )
    for key in saved:
        if key not in (*SAVED, *OTHERS):
            raise unknown_key(str(key), [*SAVED, *OTHERS], "slurm: in the saved config")
    wanted = {"max_parallel": 0, **{name: saved[name] for name in SAVED if name in saved}, **given}
    return Placement(**{name: _typed(name, value) for name, value in wanted.items()})


def _typed(name: str, value: Any) -> Any:
    """YAML reads `4:00:00` as it stands and `90` as a number; lists are ours to freeze."""
    default = getattr(Placement, name, None)
    if isinstance(default, tuple):
        if isinstance(value, str) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{name} is {value!r}, expected a list of strings", f"write `{name}: [...]`")
        return tuple(value)
    if isinstance(default, str) and not isinstance(value, str):
        return str(value)
    if type(default) in (int, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ConfigError(f"{name} is {value!r}, expected a number", f"write `{name}: 1`")
    return value
