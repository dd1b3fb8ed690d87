"""Divides the tasks of a job into the arrays that a scheduler is given; what is needed comes first.

    a sweep of 1,000                        one array of 1,000 (or ten, where arrays have at most 100 tasks)
    1,000 trainings, an evaluation each     two arrays, the second by `aftercorr`: task i waits for task i alone
    3 conversions, 24 evaluations of each   an array of 3, then three of 24 that wait for one task each

Pure: nothing here asks the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.core.job import Task

Kind = TypeVar("Kind", bound=Hashable)
Place = tuple[int, int | None]
"""Array number and index in it; the index is None for a task that is no array."""


@dataclass(frozen=True)
class Array:
    """Tasks by index that are submitted at once and want the same. `number` counts from 1.

    `after` are the tasks of earlier arrays that must all have succeeded; `beside` is the array of which the task of
    the same index must have; `outside` are tasks of earlier jobs, by the scheduler's name for them.
    """

    number: int
    tasks: Mapping[int, Task]
    after: tuple[Place, ...] = ()
    beside: int | None = None
    outside: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """A task on its own, which needs no array."""
        return len(self.tasks) == 1 and self.beside is None

    @property
    def first(self) -> Task:
        return next(iter(self.tasks.values()))

    def places(self) -> dict[str, Place]:
        """Where each task is, by key."""
        return {task.key: (self.number, None if self.single else index) for index, task in self.tasks.items()}


@dataclass
class _Division:
    """Arrays so far, and where each task went."""

    largest: int
    outside: Mapping[str, str]
    arrays: list[Array] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)

    def add(self, tasks: Mapping[int, Task], after: Iterable[Place] = (), beside: int | None = None) -> None:
        outside = {self.outside[need["key"]] for task in tasks.values() for need in task.needs if self._is_out(need)}
        array = Array(len(self.arrays) + 1, tasks, tuple(sorted(after, key=str)), beside, tuple(sorted(outside)))
        self.arrays.append(array)
        self.places.update(array.places())

    def _is_out(self, need: Mapping[str, str]) -> bool:
        return need["key"] not in self.places and need["key"] in self.outside

    def add_chunks(self, tasks: Sequence[Task], after: Iterable[Place] = ()) -> None:
        waits = tuple(after)
        for start in range(0, len(tasks), self.largest):
            self.add(dict(enumerate(tasks[start : start + self.largest])), waits)


def divide(tasks: Sequence[Task], largest: int, outside: Mapping[str, str] | None = None) -> list[Array]:
    """The arrays for `tasks`, none with an index of `largest` or more.

    `outside` are tasks of other jobs that are still in flight, by key: the scheduler's name for them.
    """
    division = _Division(largest, outside or {})
    for layer in _layers(tasks):
        for alike in _group(layer, lambda task: _wants(task, division)).values():
            _add(alike, division)
    return division.arrays


def _layers(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks whose needs are in earlier layers, or not in this job."""
    left = list(tasks)
    while left:
        waiting = {task.key for task in left}
        ready = [task for task in left if not any(need["key"] in waiting for need in task.needs)]
        yield ready
        left = [task for task in left if task.key not in {each.key for each in ready}]


def _wants(task: Task, division: _Division) -> tuple[Hashable, ...]:
    """What tasks of one array have in common: resources, and whom outside they wait for."""
    outside = frozenset(division.outside[need["key"]] for need in task.needs if need["key"] in division.outside)
    return (task.gpus, task.nodes, outside)


def _add(tasks: Sequence[Task], division: _Division) -> None:
    """Tasks of one layer that want the same resources."""
    for suppliers, waiting in _group_by_suppliers(tasks, division).items():
        if len(suppliers) == 1:
            continue
        division.add_chunks(waiting, suppliers)
    for number, by_place in _only_children(tasks, division).items():
        _add_beside(number, by_place, division)


def _group_by_suppliers(tasks: Sequence[Task], division: _Division) -> dict[frozenset[Place], list[Task]]:
    return _group(tasks, lambda task: _suppliers(task, division))


def _suppliers(task: Task, division: _Division) -> frozenset[Place]:
    return frozenset(division.places[need["key"]] for need in task.needs if need["key"] in division.places)


def _only_children(tasks: Sequence[Task], division: _Division) -> dict[int, dict[Place, list[Task]]]:
    """The tasks that wait for exactly one other: by its array, then by it."""
    found: dict[int, dict[Place, list[Task]]] = {}
    for suppliers, waiting in _group_by_suppliers(tasks, division).items():
        if len(suppliers) == 1:
            (place,) = suppliers
            found.setdefault(place[0], {})[place] = waiting
    return found


def _add_beside(number: int, waiting: Mapping[Place, list[Task]], division: _Division) -> None:
    """Whichever takes fewer arrays: one for each supplier, or one for each rank among those who wait for the same."""
    most = max(map(len, waiting.values()))
    if len(waiting) <= most:
        for place, tasks in waiting.items():
            division.add_chunks(tasks, [place])
        return
    for rank in range(most):
        ranked = {place[1]: tasks[rank] for place, tasks in waiting.items() if len(tasks) > rank}
        division.add({index: task for index, task in ranked.items() if index is not None}, beside=number)


def _group(tasks: Iterable[Task], by: Callable[[Task], Kind]) -> dict[Kind, list[Task]]:
    groups: dict[Kind, list[Task]] = {}
    for task in tasks:
        groups.setdefault(by(task), []).append(task)
    return groups
