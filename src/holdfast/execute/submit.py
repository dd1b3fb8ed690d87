"""Submits what is missing: writes the stages, takes their places in the queue, and hands one job to an executor."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from holdfast.core import attempt, files, job, kind, plan, process
from holdfast.core.attempt import Life
from holdfast.core.errors import UserError
from holdfast.core.job import Job, Task
from holdfast.core.plan import IN_FLIGHT, Plan, Reader, Standing, State
from holdfast.core.store import ADOPTED, Record, Store
from holdfast.execute.freeze import frozen

PROGRAM = "supervisor.pyz"


class Executor(Protocol):
    """Hands a job whose directory is written to whoever will run it."""

    def start(self, directory: Path, job: Job) -> None: ...


@dataclass(frozen=True)
class Placement:
    """Where and how a job runs; none of it is part of a key. `stop_after`: the step at which training stops and
    saves.
    """

    executor: str = "local"
    max_parallel: int = 1
    stop_after: int | None = None
    grace: float = 30.0
    gpus: int = 0


@dataclass(frozen=True)
class Submission:
    """What a submission did. `job` is None where nothing was owed."""

    job: Job | None
    taken: tuple[Standing, ...]
    others: tuple[Standing, ...]


def submit(
    wanted: Plan, store: Store, executor: Executor, placement: Placement, again: Collection[str] = ()
) -> Submission:
    """Submit what a plan owes, in one job. What is complete, in flight or deleted on purpose is left alone, save for
    the keys in `again`: what those made is kept aside, and they run once more.

    Raises:
        NameTaken: a name of the plan belongs to other work.
        UserError: the root cannot be written.
    """
    before = plan.standings(wanted, store)
    taken = plan.submittable(before, again)
    others = tuple(standing for standing in before if standing not in taken)
    if not taken:
        return Submission(None, (), others)
    store.prepare()
    for standing in taken:
        if standing.state is not State.OWED:
            clear_way(store, standing)
    store.write(standing.record for standing in taken)
    for record in wanted.adopted.values():
        store.adopt(record)
    reader = Reader(store, wanted)
    submitted = Job(
        token=files.new_token(),
        root=str(store.root),
        cwd=os.getcwd(),
        tasks=tuple(make_task(standing.record, reader, placement) for standing in taken),
        python=(sys.executable,),
        executor=placement.executor,
        max_parallel=placement.max_parallel,
        grace=placement.grace,
    )
    submitted = _take_places(submitted, store, reader)
    if submitted.tasks:
        directory = _write_job(submitted, store)
        executor.start(directory, submitted)
    mine = {task.key for task in submitted.tasks}
    lost = tuple(
        replace(standing, state=State.QUEUED, reason="taken by another submission a moment ago")
        for standing in taken
        if standing.record.key not in mine
    )
    return Submission(
        submitted if mine else None, tuple(standing for standing in taken if standing.record.key in mine), others + lost
    )


def clear_way(store: Store, standing: Standing) -> None:
    """Put aside what stands between a stage that was finished once and its next attempt; nothing is destroyed."""
    record = standing.record
    home = store.home(record)
    if os.path.lexists(home):
        files.set_aside(home, ".old-")
    if store.tombstone(record.key).exists():
        files.set_aside(store.tombstone(record.key), ".old-")
    if store.owner(record.home) not in (None, record.key):
        files.point(store.binding(record.home), record.key)


def make_task(record: Record, reader: Reader, placement: Placement) -> Task:
    """What the supervisor must know of one stage."""
    stage = record.stage
    implementation = kind.load(stage.kind)
    params = implementation.parse(stage.params)
    inputs = input_paths(record, reader)
    home = reader.store.home(record)
    command = implementation.command(params, inputs, home)
    return Task(
        key=record.key,
        name=record.name,
        home=record.home,
        exclusive=implementation.exclusive,
        needs=tuple(_needs(record, reader)),
        services=tuple(service.as_dict() for service in implementation.services(params, inputs)),
        command=tuple(command) if command else None,
        gpus=int(record.placement.get("gpus", placement.gpus)),
        stop_after=placement.stop_after,
    )


def input_paths(record: Record, reader: Reader) -> dict[str, Path]:
    """Where each input of a stage is, or will be.

    Raises:
        UserError: an input belongs to a stage that this root does not know.
    """
    paths = {}
    for name, ref in record.stage.inputs.items():
        path = reader.home_of(ref)
        if path is None:
            raise UserError(
                f"input {name} of `{record.name}` is unknown here: key {ref.key[:12]}",
                "plan the stage that makes it, too",
            )
        paths[name] = path
    return paths


def _needs(record: Record, reader: Reader) -> Iterator[Mapping[str, str]]:
    for ref in record.stage.inputs.values():
        supplier = reader.record_of(ref)
        if supplier and supplier.stage.kind != ADOPTED:
            yield {"home": os.path.join(supplier.home, ref.path), "key": ref.key, "path": ref.path}


def _take_places(submitted: Job, store: Store, reader: Reader) -> Job:
    """Keep the tasks whose place in the queue was free: of many who submit the same work, one gets it."""
    places = [place for task in submitted.tasks if (place := _next_place(task.key, store, reader))]
    queues = attempt.queue(places, submitted.token, process.current(), store.stages)
    kept = {queue.parent.name for queue in queues}
    return replace(submitted, tasks=tuple(task for task in submitted.tasks if task.key in kept))


def _next_place(key: str, store: Store, reader: Reader) -> tuple[Path, int] | None:
    """The number to take in the queue of a stage, or None if somebody's job is still going to run it."""
    queue = store.queued(key)
    place = attempt.newest(queue)
    if place is None:
        return queue, 1
    last = attempt.newest(store.attempts(key))
    spent = last is not None and last.job == place.job
    if not spent and job.life(store.job(place.job), place, reader.census).life is not Life.DEAD:
        return None
    return queue, place.n + 1


def _write_job(submitted: Job, store: Store) -> Path:
    directory = store.job(submitted.token)
    directory.mkdir()
    files.write_durably(directory / PROGRAM, frozen())
    files.create(directory / "job.json", files.encode(submitted.as_dict()))
    return directory


def in_flight(standings: Iterable[Standing]) -> list[Standing]:
    """Those that somebody is at."""
    return [standing for standing in standings if standing.state in IN_FLIGHT]
