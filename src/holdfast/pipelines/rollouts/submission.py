"""From a request to one job."""

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
from holdfast.pipelines.launch.request import check_cluster, check_numbers, placement_fields
from holdfast.pipelines.rollouts import planner
from holdfast.pipelines.rollouts.planner import Collected
from holdfast.pipelines.rollouts.request import DEFAULT_TIME, Request


@dataclass(frozen=True)
class Prepared:
    """A plan, where it would run, and what of it is done again."""

    collected: Collected
    placement: Placement
    again: frozenset[str]


def prepare(
    request: Request,
    store: Store,
    executor: str | None,
    max_parallel: int | None,
    *,
    has_root: bool,
    rebuild: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Prepared:
    """The plan of a request, and where it runs.

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
    take = REBUILT if rebuild else frozenset[State]()
    again = {each.record.key for each in standings(found.plan, store) if each.state in take}
    return Prepared(found, placement, frozenset(again))


def draft_all(prepared: Prepared, store: Store) -> Draft:
    """What `submit_all` would do; nothing is written, and no executor is asked."""
    return draft(prepared.collected.plan, store, prepared.placement, prepared.again)


def submit_all(prepared: Prepared, store: Store) -> Submission:
    """Submit what is owed, in one job.

    Raises:
        UserError: no executor, no root, or a name that belongs to other work.
    """
    executor = choose_executor(prepared.placement.executor)
    return submit(prepared.collected.plan, store, executor, prepared.placement, prepared.again)
