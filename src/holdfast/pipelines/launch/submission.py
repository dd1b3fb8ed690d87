"""From a request to jobs: what it plans, with which placement, and one job for all points that need the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from holdfast import trackers
from holdfast.core import artifact
from holdfast.core.errors import DamagedFile, UnreadableFile, UserError
from holdfast.core.plan import Plan, Standing, State
from holdfast.core.store import Store
from holdfast.execute.choose import choose_executor
from holdfast.execute.submit import Draft, Placement, Submission, draft, submit
from holdfast.pipelines import again, placing, points
from holdfast.pipelines.launch import code, planner
from holdfast.pipelines.launch.planner import Launch
from holdfast.pipelines.launch.request import Request, program
from holdfast.pipelines.points import Cell


@dataclass(frozen=True)
class Prepared:
    """A plan, and where it would run."""

    launch: Launch
    placement: Placement


def prepare(
    request: Request, store: Store, executor: str | None, max_parallel: int | None, *, has_root: bool
) -> Prepared:
    """The plan of a request, and the placement that its points share.

    Raises:
        UserError: it asks for something impossible.
    """
    wanted = program(request)
    placed = placing.settle(request, executor, max_parallel, has_root=has_root)
    for name in request.trackers:
        trackers.load(name)
    launch = planner.plan(placed.request, wanted, placed.defaults, store, os.environ, placed.stamp)
    launcher = request.launcher or placed.defaults.launcher or launch.launcher
    return Prepared(launch, replace(placed.placement, launcher=launcher))


def for_conversion(prepared: Prepared) -> Placement:
    """Where what the points need is made: one process on one node, without GPUs."""
    return replace(prepared.placement, nodes=1, gpus=0, launcher="plain", max_parallel=1)


def draft_all(prepared: Prepared, store: Store, *, rerun: bool, rebuild: bool) -> list[Draft]:
    """What `submit_all` would do; nothing is written, and no executor is asked.

    Raises:
        UserError: a name that belongs to other work, or more GPUs than there are.
    """
    repeated = again.keys(prepared.launch.plan, store, rerun=rerun, rebuild=rebuild)
    return [draft(plan, store, placement, repeated) for plan, placement in _groups(prepared)]


def submit_all(prepared: Prepared, store: Store, *, rerun: bool, rebuild: bool) -> list[Submission]:
    """Submit what is owed, in one job for each need of nodes and GPUs; `rerun` takes the complete points again,
    `rebuild` those that are lost, outdated or stale.

    Raises:
        UserError: no executor, no root, or a name that belongs to other work.
    """
    launch = prepared.launch
    executor = choose_executor(prepared.placement.executor)
    repeated = again.keys(launch.plan, store, rerun=rerun, rebuild=rebuild)
    try:
        done = [submit(plan, store, executor, placement, repeated) for plan, placement in _groups(prepared)]
    except UserError:
        _remember(launch, points.written(launch.cells, store), store)
        raise
    _remember(launch, launch.cells, store)
    return done


def _remember(launch: Launch, cells: Sequence[Cell], store: Store) -> None:
    if launch.is_sweep:
        points.remember(cells, launch.name, store)


def _groups(prepared: Prepared) -> Iterator[tuple[Plan, Placement]]:
    for (nodes, gpus), plan in prepared.launch.groups().items():
        yield plan, replace(prepared.placement, nodes=nodes, gpus=gpus)


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
