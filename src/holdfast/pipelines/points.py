"""The points of a sweep as planned work: what they are called, where they go, and which of them are the same.

A command without a sweep has one point.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from holdfast.core.config import key_of
from holdfast.core.errors import DamagedFile, NameTaken, UnreadableFile, UserError
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.stage import Stage
from holdfast.core.store import RESERVED, Store
from holdfast.pipelines import sweeps
from holdfast.pipelines.plan_file import NAME
from holdfast.sweeps import labels
from holdfast.sweeps.space import Point, Sweep


@dataclass(frozen=True)
class Cell:
    """One point, planned. `label` is its name inside the sweep, empty without one."""

    record: Record
    point: Point
    label: str
    nodes: int
    gpus: int


@dataclass(frozen=True)
class Cells:
    """`each` in the order of the sweep, each work once; `same` names the points that are the same work as an earlier
    one.
    """

    each: tuple[Cell, ...]
    same: tuple[tuple[str, str], ...]

    @property
    def plan(self) -> Plan:
        return Plan(cell.record for cell in self.each)


def plan(sweep: Sweep | None, keys: list[str], make: Callable[[Point, str], Cell]) -> Cells:
    """All points, each made by `make` from its values and its label of the values of `keys`."""
    cells: dict[str, Cell] = {}
    same: list[tuple[str, str]] = []
    points: list[Point] = sweep.points() if sweep else [{}]
    for point in points:
        label = labels.label(point, keys) if sweep else ""
        cell = make(point, label)
        known = cells.setdefault(cell.record.key, cell)
        if known is not cell:
            same.append((label, known.label))
    return Cells(_told_apart(cells.values()), tuple(same))


def label_keys(sweep: Sweep, by_hand: Collection[str]) -> list[str]:
    """The keys that name a point: those with a list of values, unless the command line set them."""
    keys = [key for axis in sweep.axes for key in axis if key_of(key) not in by_hand]
    return keys or [key for key in sweep.swept if key_of(key) not in by_hand] or sweep.swept


def check_name(name: str) -> None:
    """
    Raises:
        UserError: a directory cannot be called so.
    """
    if not NAME.fullmatch(name) or name.startswith(".") or len(name.encode()) > labels.LONGEST:
        raise UserError(f"job name {name!r} cannot be a directory's name", "use letters, digits and . _ + % @ -")
    if name in RESERVED:
        raise UserError(f"job name {name!r} is a folder of holdfast's own", "choose another one with --jobname")


def check_room(store: Store, folder: str) -> None:
    """
    Raises:
        NameTaken: the points would lie inside the home of a job, and go when that goes.
    """
    owner = store.owner(folder)
    if owner and not store.tombstone(owner).exists():
        raise NameTaken(
            f"the points of this sweep would go into {store.root / folder}, which is the home of a job",
            "give it another name: --jobname NAME",
        )


def settle_home(store: Store, stage: Stage, wanted: str, notes: list[str], *, asked: bool) -> str:
    """Where the work is, or will be: known work stays where it is, and a default name makes way for other work, unless
    a person `asked` for it.

    Raises:
        NameTaken: the name that was asked for belongs to other work.
    """
    known = known_home(store, stage)
    if known is not None:
        if known != wanted and asked:
            notes.append(f"`{wanted}` is the same work as `{known}`: it is at {store.root / known}")
        return known
    owner = store.owner(wanted)
    if owner == stage.key:
        return wanted  # somebody submits the same at this moment: the name is bound before the stage is written
    taken = owner is not None and not store.tombstone(owner).exists()
    foreign = owner is None and (os.path.lexists(store.root / wanted) or sweeps.exists(store, wanted))
    if not taken and not foreign:
        return wanted
    if not asked:
        other = f"{wanted}-{stage.key[:6]}"
        notes.append(f"`{wanted}` holds other work: this is `{other}`")
        return other
    if owner:
        raise store.taken(Record(stage, wanted, wanted), owner)
    if sweeps.exists(store, wanted):
        raise NameTaken(f"`{wanted}` is a sweep, whose points lie in {store.root / wanted}", "choose another name")
    return wanted  # `store.write` says what is in the way


def written(cells: Iterable[Cell], store: Store) -> list[Cell]:
    """Those whose home is bound to them: also of a submission that was refused, where they are owed."""
    return [cell for cell in cells if store.owner(cell.record.home) == cell.record.key]


def remember(cells: Iterable[Cell], name: str, store: Store) -> None:
    """That these are points of the sweep `name`."""
    listed = [(cell.record.key, cell.label, cell.point) for cell in cells]
    if listed:
        sweeps.remember(store, name, listed)


def known_home(store: Store, stage: Stage) -> str | None:
    """Where work of this root is; None for what is new here."""
    try:
        return store.read(stage.key).home
    except (FileNotFoundError, DamagedFile, UnreadableFile):
        return None


def _told_apart(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Two points with one label (`1` and `"1"`) get their key's beginning."""
    found = list(cells)
    homes = [cell.record.home for cell in found]
    return tuple(_suffixed(cell) if homes.count(cell.record.home) > 1 else cell for cell in found)


def _suffixed(cell: Cell) -> Cell:
    end = f"-{cell.record.key[:6]}"
    record = replace(cell.record, name=cell.record.name + end, home=cell.record.home + end)
    return replace(cell, record=record, label=cell.label + end)
