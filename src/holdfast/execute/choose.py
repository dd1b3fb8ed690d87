"""Chooses who runs jobs, this machine or SLURM, and reads the saved defaults of a cluster."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from pydantic import Field

from holdfast.core import attempt, config
from holdfast.core.errors import ConfigError, DamagedFile, UnreadableFile, UserError
from holdfast.core.job import LEAD_SECONDS, Job
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.schema import Schema, validate
from holdfast.core.store import Store
from holdfast.execute import slurm_commands
from holdfast.execute.local import LocalExecutor
from holdfast.execute.slurm import SlurmExecutor
from holdfast.execute.submit import FOR_SCHEDULER, Executor, Placement

NAMES = ("auto", "local", "slurm")
LEAST_BEATS = 3
"""Signs of life that must be missed before a silence is one: a file system may keep one to itself for a while."""


class ClusterDefaults(Schema):
    """The section `slurm:` of the saved config."""

    executor: Literal["auto", "local", "slurm"] = "auto"
    account: str | None = None
    partition: str | None = None
    containers: str | None = None
    """The directory of containers, as `$CON`."""
    container: str | None = None
    mounts: str | None = None
    time: str | int | None = None
    max_time: str | int | None = None
    """What one stage may use in all, over as many allocations as it takes."""
    lead: float = Field(LEAD_SECONDS, ge=0)
    """Seconds between the warning and the time limit: what saving may take, and a minute."""
    nodes: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    launcher: Literal["plain", "torchrun", "ray"] | None = None
    max_parallel: int | None = Field(None, ge=1)
    heartbeat: float | None = Field(None, gt=0)
    """Seconds between two signs of life of an attempt."""
    silence: float | None = Field(None, gt=0)
    """Seconds without one after which an attempt that nobody can see counts as dead, where that is safe."""
    setup: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """Names of variables that jobs get; their values are never stored."""
    poll_seconds: float | None = Field(None, gt=0)
    """How often a command that watches asks SLURM, at most."""


def cluster_defaults() -> ClusterDefaults:
    """Those of `./holdfast.yaml` over those of the user.

    Raises:
        ConfigError: they say something impossible.
    """
    found = validate(ClusterDefaults, config.settings().get("slurm") or {}, "section slurm of the saved config")
    beat, silence = found.heartbeat or attempt.HEARTBEAT_SECONDS, found.silence or attempt.SILENCE_SECONDS
    if silence < LEAST_BEATS * beat:
        raise ConfigError(
            f"slurm.silence in the saved config is {silence:g} s, and there is a heartbeat every {beat:g} s",
            f"let it be {LEAST_BEATS * beat:g} s or more, or nobody is ever alive",
        )
    return found


def settle_name(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """`local` or `slurm`; `auto` is local inside an allocation and where there is no SLURM.

    A controller that cannot be reached is an error later on, never a reason to run here.

    Raises:
        UserError: there is no such executor.
    """
    if name not in NAMES:
        raise UserError(f"there is no executor `{name}`", f"executors: {', '.join(NAMES)}")
    if name != "auto":
        return name
    return "local" if "SLURM_JOB_ID" in environ or not slurm_commands.is_here(environ) else "slurm"


def choose_executor(name: str, environ: Mapping[str, str] = os.environ) -> Executor:
    """The executor of this name.

    Raises:
        UserError: SLURM is wanted, and is not here or does not answer.
    """
    return LocalExecutor() if settle_name(name, environ) == "local" else SlurmExecutor()


def place(defaults: ClusterDefaults, executor: str, given: Mapping[str, Any]) -> Placement:
    """A placement for the settled `executor`: what was `given`, over the saved defaults, over ours."""
    names = {field.name for field in fields(Placement)}
    saved = {name: value for name, value in defaults if name in names and value is not None}
    saved |= {name: str(saved[name]) for name in ("time", "max_time") if name in saved}
    at_once = given.get("max_parallel") or defaults.max_parallel or default_parallel(executor)
    return Placement(**{**saved, **given, "executor": executor, "max_parallel": at_once})


def group_as_before(plan: Plan, store: Store) -> list[tuple[Plan, dict[str, Any]]]:
    """The stages of a plan, together where the newest job of each placed them alike, with the fields of that."""
    groups: list[tuple[list[Record], dict[str, Any]]] = []
    for record in plan:
        before = _place_as_before(store, record.key)
        group = next((records for records, placed in groups if placed == before), None)
        if group is None:
            groups.append(([record], before))
        else:
            group.append(record)
    return [(Plan(records, plan.adopted.values()), placed) for records, placed in groups]


def _place_as_before(store: Store, key: str) -> dict[str, Any]:
    """Empty where it is not known any more."""
    place = attempt.newest(store.queued(key))
    try:
        before = Job.read(store.job(place.job)) if place else None
    except (FileNotFoundError, DamagedFile, UnreadableFile):
        return {}
    task = next((task for task in before.tasks if task.key == key), None) if before else None
    if before is None or task is None:
        return {}
    limit = {"max_time": str(math.ceil(before.max_seconds / 60))} if before.max_seconds else {}
    scheduled = {name: getattr(before, name) for name in FOR_SCHEDULER}
    return {**scheduled, **limit, "nodes": task.nodes, "gpus": task.gpus}


def default_parallel(executor: str) -> int:
    """Stages at a time: one on this machine, as many as SLURM allows (0) there."""
    return 0 if executor == "slurm" else 1
