"""From a request to one job: the conversion, and all evaluations of what comes out of it."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.core.plan import REBUILT, State, standings
from holdfast.core.store import Store
from holdfast.execute.choose import choose_executor, cluster_defaults, default_parallel, settle_name
from holdfast.execute.submit import Draft, Placement, Submission, draft, submit
from holdfast.pipelines import sweeps
from holdfast.pipelines.evaluate import planner
from holdfast.pipelines.evaluate.planner import FOLDER, Evaluations
from holdfast.pipelines.evaluate.request import DEFAULT_TIME, Request
from holdfast.pipelines.launch.request import check_cluster, check_numbers, placement_fields


@dataclass(frozen=True)
class Prepared:
    """A plan, where it would run, and what of it is done again."""

    evaluations: Evaluations
    placement: Placement
    again: frozenset[str]


def prepare(
    request: Request,
    store: Store,
    executor: str | None,
    max_parallel: int | None,
    *,
    has_root: bool,
    rerun: bool = False,
    rebuild: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """The plan of a request, and the placement that its points share.

    Raises:
        UserError: it asks for something impossible.
    """
    defaults = cluster_defaults()
    placed = replace(
        request.placed,
        executor=settle_name(executor or defaults.executor, environ),
        time=request.placed.time or (str(defaults.time) if defaults.time else DEFAULT_TIME),
    )
    check_numbers(placed, max_parallel)
    if placed.executor == "slurm":
        check_cluster(placed, defaults, environ, has_root=has_root)
    fields = placement_fields(placed, defaults, environ)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}" if placed.new else ""
    found = planner.plan(replace(request, placed=placed), defaults, store, stamp)
    at_once = max_parallel or defaults.max_parallel or default_parallel(placed.executor)
    placement = Placement(max_parallel=at_once, **{**fields, "launcher": "plain"})
    return Prepared(found, placement, _again(found, store, request, rerun=rerun, rebuild=rebuild))


def _again(found: Evaluations, store: Store, request: Request, *, rerun: bool, rebuild: bool) -> frozenset[str]:
    """The keys that are done once more; a conversion only by its own flag."""
    record = found.conversion.record if found.conversion else None
    forced = {record.key} if record and request.force_conversion else set[str]()
    take = (REBUILT if rebuild else frozenset[State]()) | ({State.COMPLETE} if rerun else set[State]())
    cells = {cell.record.key for cell in found.cells.each}
    chosen = {
        each.record.key for each in standings(found.plan, store) if each.state in take and each.record.key in cells
    }
    return frozenset(forced | chosen)


def draft_all(prepared: Prepared, store: Store) -> Draft:
    """What `submit_all` would do; nothing is written, and no executor is asked."""
    return draft(prepared.evaluations.plan, store, prepared.placement, prepared.again)


def submit_all(prepared: Prepared, store: Store) -> Submission:
    """Submit what is owed, in one job.

    Raises:
        UserError: no executor, no root, or a name that belongs to other work.
    """
    found = prepared.evaluations
    executor = choose_executor(prepared.placement.executor)
    try:
        return submit(found.plan, store, executor, prepared.placement, prepared.again)
    finally:
        _remember(found, store)


def _remember(found: Evaluations, store: Store) -> None:
    """That these are points of the sweep, where it is one; also of a submission that was refused: they are owed."""
    written = [cell for cell in found.cells.each if store.owner(cell.record.home) == cell.record.key]
    if found.is_sweep and written:
        name = f"{FOLDER}/{found.name}"
        sweeps.remember(store, name, [(cell.record.key, cell.label, cell.point) for cell in written])
