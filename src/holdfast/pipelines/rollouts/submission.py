"""From a request to one job."""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.core.store import Store
from holdfast.execute.choose import choose_executor
from holdfast.execute.submit import Draft, Placement, Submission, draft, submit
from holdfast.pipelines import again, placing
from holdfast.pipelines.rollouts import planner
from holdfast.pipelines.rollouts.planner import Collected
from holdfast.pipelines.rollouts.request import Request


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
) -> Prepared:
    """The plan of a request, and where it runs.

    Raises:
        UserError: it asks for something impossible.
    """
    placed = placing.settle(request.placed, executor, max_parallel, has_root=has_root)
    found = planner.plan(replace(request, placed=placed.request), placed.defaults, store, placed.stamp)
    return Prepared(found, placed.placement, again.keys(found.plan, store, rebuild=rebuild))


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
