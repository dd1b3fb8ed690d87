"""Plans and standings of what a root already holds: every stage, or those that a person names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from holdfast.core import near, plugins, process
from holdfast.core.errors import ConfigError, DamagedFile, UnreadableFile, UserError, unknown_key
from holdfast.core.plan import Plan, Reader, Standing
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.pipelines import sweeps


class DamageWarning(UserWarning):
    """A stage could not be read, and is left out of the list."""


def plan_for(text: str, overrides: Sequence[str], store: Store, *, trust: bool = False) -> Plan:
    """The plan in a file, or the plan of one stage that the root knows.

    Raises:
        UserError: there is no such plan, or the stage was written by another user, whose commands would run as ours,
            and there is no `trust`.
    """
    if is_plan_file(text):
        from holdfast.pipelines import plan_file

        if not os.path.lexists(text):
            raise ConfigError(f"there is no plan at {text}", near.yaml_hint(Path(text)))
        return plan_file.read(Path(text), overrides, store)
    if overrides:
        raise ConfigError(
            f"`{text}` is a stage that is already planned: {overrides[0]} cannot change it", "change the plan file"
        )
    records = records_of([text], store)
    if not trust:
        for record in records:
            _check_author(record, store)
    for directory in {record.placement.get("kind_from") for record in records} - {None}:
        plugins.look_in(str(directory))
    return Plan(records)


def is_plan_file(text: str) -> bool:
    """Whether a person means a file, and not a stage that the root knows."""
    return Path(text).suffix in (".yaml", ".yml") or Path(text).is_file()


def _check_author(record: Record, store: Store) -> None:
    author, user = store.author(record.key), process.current().user
    if author != user:
        path = store.stage(record.key) / "stage.json"
        raise UserError(
            f"`{record.name}` was written by {author}, and would run as {user}: {path}", "read it, then say --trust"
        )


def named(plan: Plan, name: str) -> Record:
    """The stage of a plan with this name.

    Raises:
        ConfigError: there is none.
    """
    for record in plan:
        if name in (record.name, record.home):
            return record
    raise unknown_key(name, [record.name for record in plan], "plan")


def standings_of(names: Sequence[str], store: Store) -> list[Standing]:
    """How the named stages stand, or all of the root, in the order in which they were planned."""
    reader = Reader(store)
    records = records_of(names, store) if names else _all_records(store, reader)
    return [reader.standing(record) for record in records]


def records_of(names: Sequence[str], store: Store) -> list[Record]:
    """The named stages; the name of a sweep stands for all of its points."""
    found: list[Record] = []
    for name in names:
        if sweep := sweeps.named(store, name):
            found += [member.record for member in sweeps.members(store, sweep)]
        else:
            found.append(store.find(name))
    return found


def _all_records(store: Store, reader: Reader) -> list[Record]:
    found: list[Record] = []
    for record in store.records():
        if isinstance(record, DamagedFile | UnreadableFile):
            warnings.warn(str(record), DamageWarning, stacklevel=2)
        elif store.owner(record.home) in (record.key, None):
            found.append(record)  # Otherwise it was given up, and other work has its name.
    reader.remember(found)
    return sorted(found, key=lambda record: (record.planned, record.name))
