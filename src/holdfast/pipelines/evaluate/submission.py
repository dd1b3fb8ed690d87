"""From a request to one job: the conversion, and all evaluations of what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.core.store import Store
from holdfast.execute.choose import choose_executor
from holdfast.execute.submit import Draft, Placement, Submission, draft, submit
from holdfast.pipelines import again, placing, points
from holdfast.pipelines.evaluate import planner
from holdfast.pipelines.evaluate.planner import FOLDER, Evaluations
from holdfast.pipelines.evaluate.request import DEFAULT_TIME, Request


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
) -> Prepared:
    """The plan of a request, and the placement that its points share.

    Raises:
        UserError: it asks for something impossible.
    """
    placed = placing.settle(request.placed, executor, max_parallel, has_root=has_root, usual_time=DEFAULT_TIME)
    found = planner.plan(replace(request, placed=placed.request), placed.defaults, store, placed.stamp)
    chosen = again.keys(found.plan, store, rerun=rerun, rebuild=rebuild) & {
        cell.record.key for cell in found.cells.each
    }
    return Prepared(found, placed.placement, chosen | _forced(request, found))


def _forced(request: Request, found: Evaluations) -> set[str]:
    """A conversion is made once more only by its own flag."""
    record = found.conversion.record if found.conversion else None
    return {record.key} if record and request.force_conversion else set()


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
    if found.is_sweep:
        points.remember(points.written(found.cells.each, store), f"{FOLDER}/{found.name}", store)
