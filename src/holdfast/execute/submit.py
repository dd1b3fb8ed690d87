"""Submits what is missing: writes the stages, takes their places in the queue, and hands one job to an executor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from holdfast.core import attempt, files, generations, job, kind, plan, process
from holdfast.core.attempt import Life
from holdfast.core.errors import UserError
from holdfast.core.job import Job, Task
from holdfast.core.plan import IN_FLIGHT, REPEATABLE, Plan, Reader, Standing, State
from holdfast.core.record import Record
from holdfast.core.store import ADOPTED, Store
from holdfast.execute import sbatch, slots
from holdfast.execute.freeze import frozen
from holdfast.execute.stop import bury_proven

PROGRAM = "supervisor.pyz"
EVICTIONS = 5
EVICTION_SECONDS = 2.0
"""How long a note of an eviction is waited out; a program that died at it may have left it."""
MOVED = REPEATABLE - {State.LOST}
REPEATED = REPEATABLE | {State.EVICTED}
FOR_SCHEDULER: tuple[str, ...] = ("time", "account", "partition", "container", "mounts", "launcher")
FOR_SCHEDULER += ("setup", "sbatch_args", "env", "lead")


class Executor(Protocol):
    """Hands a job whose directory is written to whoever will run it."""

    def start(self, directory: Path, job: Job) -> None: ...


@dataclass(frozen=True)
class Placement:
    """Where and how a job runs; none of it is part of a key. `stop_after`: the step at which training stops and
    saves. `trackers`: where metrics are shown, for stages that do not say so themselves. `gpus` and `nodes` are a
    stage's, GPUs on each node; `time` is H:M:S; `env` names variables to forward, their values are never stored. What
    follows `nodes` concerns a scheduler, and means nothing on this machine; `max_time` is what a stage may use in all,
    over as many allocations as it takes.
    """

    executor: str = "local"
    max_parallel: int = 1
    stop_after: int | None = None
    grace: float = 30.0
    heartbeat: float = attempt.HEARTBEAT_SECONDS
    silence: float = attempt.SILENCE_SECONDS
    gpus: int = 0
    trackers: tuple[str, ...] = ()
    nodes: int = 1
    time: str = ""
    account: str = ""
    partition: str = ""
    container: str = ""
    mounts: str = ""
    launcher: str = "plain"
    setup: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    lead: float = job.LEAD_SECONDS
    max_time: str = ""


@dataclass(frozen=True)
class Draft:
    """How a plan stands, what of it would be submitted, and as which job: None where nothing is owed."""

    job: Job | None
    standings: tuple[Standing, ...]
    taken: tuple[Standing, ...]

    @property
    def others(self) -> tuple[Standing, ...]:
        keys = {each.record.key for each in self.taken}
        return tuple(each for each in self.standings if each.record.key not in keys)


@dataclass(frozen=True)
class Submission:
    """What a submission did. `job` is None where nothing was owed, or others were faster."""

    job: Job | None
    taken: tuple[Standing, ...]
    others: tuple[Standing, ...]


def draft(wanted: Plan, store: Store, placement: Placement, again: Collection[str] = ()) -> Draft:
    """What `submit` would do; nothing is written, and no executor is asked.

    Raises:
        NameTaken: a name of the plan belongs to other work.
        UserError: more GPUs are wanted than there are, or work in flight reads what would be done again.
    """
    before = plan.standings(wanted, store)
    taken = plan.submittable(before, again) + [each for each in before if _is_doubtful(each)]
    taken = _with_evicted(taken, before, again)
    if not taken:
        return Draft(None, tuple(before), ())
    _check_gpus(taken, placement)
    moved = {each.record.key for each in taken if each.state in MOVED and not _is_replaced(each, store)}
    if moved:
        plan.refuse_if_read(store, moved)
    store.refuse_taken(each.record for each in taken if each.state not in REPEATED)
    return Draft(_make_job(wanted, taken, store, placement), tuple(before), tuple(taken))


def submit(
    wanted: Plan, store: Store, executor: Executor, placement: Placement, again: Collection[str] = ()
) -> Submission:
    """Submit what a plan owes, in one job. What is complete, in flight or deleted on purpose is left alone, save for
    the keys in `again`: what those made is kept aside, and they run once more.

    Raises:
        NameTaken: a name of the plan belongs to other work.
        UserError: the root cannot be written, or what `draft` says.
    """
    for left in reversed(range(EVICTIONS)):
        wish = draft(wanted, store, placement, again)
        if wish.job is None:
            return Submission(None, (), wish.others)
        _write_stages(wanted, wish.taken, store)
        submitted = _take_places(wish.job, wanted, wish.taken, store)
        if not left or not _went_from_cache(submitted, store):
            break
        for task in submitted.tasks:
            _leave_place(task, store, "an input went from the cache in this moment")
    mine = {task.key for task in submitted.tasks}
    got = tuple(each for each in wish.taken if each.record.key in mine)
    if got:
        for each in got:
            bury_proven(store, each)
        # Not before the place is taken: until then all this may be the fresh result of another submission.
        for each in got:
            if each.state in REPEATED:
                clear_way(store, each)
        executor.start(_write_job(submitted, store), submitted)
    lost = tuple(
        replace(each, state=State.QUEUED, reason="taken by another submission a moment ago")
        for each in wish.taken
        if each.record.key not in mine
    )
    return Submission(submitted if got else None, got, wish.others + lost)


def _with_evicted(taken: Sequence[Standing], before: Sequence[Standing], again: Collection[str]) -> list[Standing]:
    """What is taken, and before it what it needs that was put out of the cache: that is made again. What lies in an
    archive is not: it is restored from there.
    """
    evicted = {each.record.key: each for each in before if each.state is State.EVICTED and _is_cached(each)}
    chosen = {each.record.key for each in taken} | (evicted.keys() & set(again))
    needs = [ref.key for each in taken for ref in each.record.stage.inputs.values()]
    while needs:
        if (key := needs.pop()) in evicted and key not in chosen:
            chosen.add(key)
            needs += [ref.key for ref in evicted[key].record.stage.inputs.values()]
    return [each for each in before if each.record.key in chosen]


def _is_cached(standing: Standing) -> bool:
    return kind.load(standing.record.stage.kind).generations


def _is_doubtful(standing: Standing) -> bool:
    """In flight where nobody here can see it, and safe to run twice: its supervisor will watch it for a silence."""
    return standing.unseen and not kind.load(standing.record.stage.kind).exclusive


def _gpus(record: Record, placement: Placement) -> int:
    return int(record.placement.get("gpus", placement.gpus))


def _check_gpus(taken: Sequence[Standing], placement: Placement) -> None:
    if placement.executor != "local":
        return
    most = max(taken, key=lambda standing: _gpus(standing.record, placement))
    wanted, there = _gpus(most.record, placement), len(slots.devices())
    if wanted > there:
        raise UserError(
            f"`{most.record.name}` wants {wanted} GPUs, and this machine has {there}",
            "ask for fewer with `gpus:`, or say in HOLDFAST_GPUS which there are: HOLDFAST_GPUS=0,1",
        )


def _write_stages(wanted: Plan, taken: Iterable[Standing], store: Store) -> None:
    store.prepare()
    for standing in taken:
        if standing.state in REPEATED:
            _rebind(store, standing)
    store.write(standing.record for standing in taken)
    for record in wanted.adopted.values():
        store.adopt(record)


def _rebind(store: Store, standing: Standing) -> None:
    """Let the home follow its stage: from the older version of it, or back after it was deleted.

    Raises:
        NameTaken: meanwhile the home went to other work.
    """
    record = standing.record
    owner = store.owner(record.home)
    if owner == record.key:
        return
    if owner and standing.state is not State.OUTDATED and not store.tombstone(owner).exists():
        raise store.taken(record, owner)
    files.point(store.binding(record.home), record.key)


def _make_job(wanted: Plan, taken: Iterable[Standing], store: Store, placement: Placement) -> Job:
    reader = Reader(store, wanted)
    return Job(
        token=files.new_token(),
        root=str(store.root),
        cwd=os.getcwd(),
        tasks=tuple(make_task(standing, reader, placement) for standing in taken),
        python=(sys.executable,),
        executor=placement.executor,
        max_parallel=placement.max_parallel,
        grace=placement.grace,
        heartbeat=placement.heartbeat,
        silence=placement.silence,
        max_seconds=float(sbatch.seconds(placement.max_time)) if placement.max_time else 0.0,
        **{name: getattr(placement, name) for name in FOR_SCHEDULER},
    )


def clear_way(store: Store, standing: Standing) -> None:
    """Put aside what stands between a stage that was finished once and its next attempt; nothing is destroyed. A home
    that is a link stays until the next generation is there.
    """
    record = standing.record
    home = store.home(record)
    if os.path.lexists(home) and not _is_replaced(standing, store):
        files.set_aside(home, ".old-")
    for note in (store.tombstone(record.key), store.eviction(record.key)):
        if note.exists():
            files.set_aside(note, ".old-")


def _is_replaced(standing: Standing, store: Store) -> bool:
    """Whether the home of a stage is a link that its next generation will take over."""
    is_link = store.home(standing.record).is_symlink()
    return is_link and kind.load(standing.record.stage.kind).generations


def make_task(standing: Standing, reader: Reader, placement: Placement) -> Task:
    """What the supervisor must know of one stage."""
    record = standing.record
    stage = record.stage
    implementation = kind.load(stage.kind)
    params = implementation.parse(stage.params, record.placement)
    inputs = input_paths(record, reader)
    around = implementation.surroundings(params)
    home = reader.store.home(record)
    command = implementation.command(params, inputs, home)
    return Task(
        key=record.key,
        name=record.name,
        home=record.home,
        exclusive=implementation.exclusive,
        needs=(*_needs(record, reader), *record.placement.get("after", ())),
        services=tuple(service.as_dict() for service in implementation.services(params, inputs)),
        command=tuple(command) if command else None,
        env=around.variables,
        gpus=_gpus(record, placement),
        nodes=int(record.placement.get("nodes", placement.nodes)),
        stop_after=placement.stop_after,
        trackers=tuple(record.placement.get("trackers", placement.trackers)),
        directory=around.directory,
        folders=around.folders,
        reads=around.reads,
        progress=around.progress,
        stop_signal=around.stop_signal,
        replaces=generations.current(home) if _is_replaced(standing, reader.store) else "",
        retries=int(record.placement.get("retries", 0)),
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
            yield {
                "home": f"{supplier.home}/{ref.path}" if ref.path else supplier.home,
                "key": ref.key,
                "path": ref.path,
            }


def _take_places(submitted: Job, wanted: Plan, taken: Iterable[Standing], store: Store) -> Job:
    """Keep the tasks whose place in the queue was free: of many who submit the same work, one gets it.

    The number of the place is read first and the standing once more after it: who else took a place in between has the
    number that we are going to ask for.
    """
    reader = Reader(store, wanted)
    places = {task.key: place for task in submitted.tasks if (place := _next_place(task.key, store, reader))}
    reader = Reader(store, wanted)
    free = [places[each.record.key] for each in taken if each.record.key in places and _is_as_before(each, reader)]
    queues = attempt.queue(free, submitted.token, process.current(), store.stages)
    kept = {queue.parent.name for queue in queues}
    mine = [task for task in submitted.tasks if task.key in kept]
    for task in mine:
        if store.owner(task.home) != task.key:
            _leave_place(task, store, f"{task.home} went to other work")
    return replace(submitted, tasks=tuple(task for task in mine if store.owner(task.home) == task.key))


def _leave_place(task: Task, store: Store, why: str) -> None:
    if place := attempt.newest(store.queued(task.key)):
        attempt.end(place, "dropped", f"not started: {why}")


def _went_from_cache(submitted: Job, store: Store) -> bool:
    """Whether an input that was there is being put out of the cache. Who puts out notes it first and looks for readers
    after; we took our places first and look for the note after: one of the two sees the other.
    """
    made = {task.key for task in submitted.tasks}
    deadline = time.monotonic() + EVICTION_SECONDS
    for need in [need for task in submitted.tasks for need in task.needs if need["key"] not in made]:
        while store.eviction(need["key"]).exists() and time.monotonic() < deadline:
            if not os.path.lexists(store.root / need["home"]):
                return True
            time.sleep(0.02)
    return False


def _is_as_before(standing: Standing, reader: Reader) -> bool:
    now = reader.standing(standing.record)
    return (now.state, now.attempt) == (standing.state, standing.attempt)


def _next_place(key: str, store: Store, reader: Reader) -> tuple[Path, int] | None:
    """The number to take in the queue of a stage, or None if somebody's job is still going to run it."""
    queue = store.queued(key)
    place = attempt.newest(queue)
    if place is None:
        return queue, 1
    last = attempt.newest(store.attempts(key))
    spent = last if last and last.job == place.job else None
    if place.ending() or reader.life(key, place, spent).life is Life.DEAD:
        return queue, place.n + 1
    return None


def _write_job(submitted: Job, store: Store) -> Path:
    directory = store.job(submitted.token)
    directory.mkdir()
    files.write_durably(directory / PROGRAM, frozen())
    files.create(directory / "job.json", files.encode(submitted.as_dict()))
    return directory


def in_flight(standings: Iterable[Standing]) -> list[Standing]:
    """Those that somebody is at."""
    return [standing for standing in standings if standing.state in IN_FLIGHT]
