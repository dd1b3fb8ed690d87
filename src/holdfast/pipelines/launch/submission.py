"""From a request to jobs: what it plans, with which placement, and one job for all points that need the same."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.core import artifact
from holdfast.core.errors import DamagedFile, UnreadableFile, UserError
from holdfast.core.plan import REBUILT, Standing, State, standings
from holdfast.core.store import Store
from holdfast.execute.choose import choose_executor, cluster_defaults, default_parallel, settle_name
from holdfast.execute.submit import Placement, Submission, submit
from holdfast.pipelines import sweeps
from holdfast.pipelines.launch import code, planner
from holdfast.pipelines.launch.planner import Launch
from holdfast.pipelines.launch.request import Request, check_cluster, placement_fields, program


@dataclass(frozen=True)
class Prepared:
    """A plan, and where it would run."""

    launch: Launch
    placement: Placement


def prepare(
    request: Request,
    store: Store,
    executor: str | None,
    max_parallel: int | None,
    *,
    has_root: bool,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """The plan of a request, and the placement that its points share.

    Raises:
        UserError: it asks for something impossible.
    """
    defaults = cluster_defaults()
    request = replace(request, executor=settle_name(executor or defaults.executor, environ))
    for flag, value, least in (
        ("--nodes", request.nodes, 1),
        ("--gpus", request.gpus, 0),
        ("--max-parallel", max_parallel, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{flag} is {value}, expected a number from {least}", f"for example {flag} {least}")
    wanted = program(request)
    if request.executor == "slurm":
        check_cluster(request, defaults, environ, has_root=has_root)
    fields = placement_fields(request, defaults, environ)
    stamp = time.strftime("%Y%m%d-%H%M%S") if request.new else ""
    launch = planner.plan(request, wanted, defaults, store, environ, stamp)
    at_once = max_parallel or defaults.max_parallel or default_parallel(request.executor)
    placement = Placement(max_parallel=at_once, launcher=request.launcher or launch.launcher, **fields)
    return Prepared(launch, placement)


def submit_all(prepared: Prepared, store: Store, *, rerun: bool, rebuild: bool) -> list[Submission]:
    """Submit what is owed, in one job for each need of nodes and GPUs; `rerun` takes the complete points again,
    `rebuild` those that are lost, outdated or stale.

    Raises:
        UserError: no executor, no root, or a name that belongs to other work.
    """
    launch = prepared.launch
    executor = choose_executor(prepared.placement.executor)
    before = standings(launch.plan, store)
    take = REBUILT if rebuild else frozenset[State]()
    again = {each.record.key for each in before if each.state in take or (rerun and each.state is State.COMPLETE)}
    done = [
        submit(plan, store, executor, replace(prepared.placement, nodes=nodes, gpus=gpus), again)
        for (nodes, gpus), plan in launch.groups().items()
    ]
    if launch.is_sweep:
        sweeps.remember(store, launch.name, [(cell.record.key, cell.label, cell.point) for cell in launch.cells])
    return done


def scripts(prepared: Prepared, store: Store) -> list[str]:
    """What would be given to sbatch for all that is owed; the token of the job is the only thing to differ."""
    from holdfast.execute import sbatch, slurm
    from holdfast.execute.submit import make_job

    found = {each.record.key: each for each in standings(prepared.launch.plan, store)}
    shown = []
    for (nodes, gpus), plan in prepared.launch.groups().items():
        owed = [found[record.key] for record in plan if found[record.key].state is State.OWED]
        if owed:
            job = make_job(plan, owed, store, replace(prepared.placement, nodes=nodes, gpus=gpus))
            shown += slurm.preview(job, store.job(job.token), sbatch.Site())
    return shown


def changed_code(launch: Launch, store: Store, found: list[Standing]) -> list[tuple[str, str]]:
    """Finished points whose code changed since: name, and what changed. They are not run again by themselves."""
    now = launch.code
    changed = []
    for standing in found:
        if standing.state is not State.COMPLETE:
            continue
        try:
            manifest = artifact.read(store.home(standing.record))
        except (DamagedFile, UnreadableFile):
            continue
        words = code.changes(manifest.content.get("code", {}), now) if manifest else ""
        if words:
            changed.append((standing.record.name, words))
    return changed
