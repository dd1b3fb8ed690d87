"""The record of a planned stage, `stage.json`: what is wanted, under which name, where it goes, how it is run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.core import files, process
from holdfast.core.errors import ConfigError, DamagedFile
from holdfast.core.leaves import leaves
from holdfast.core.stage import Stage, short


@dataclass(frozen=True)
class Record:
    """A planned stage as it is kept: what is wanted, under which name, where it goes."""

    stage: Stage
    name: str
    home: str
    placement: Mapping[str, Any] = field(default_factory=dict)
    planned: float = 0.0

    @property
    def key(self) -> str:
        return self.stage.key


def is_below(home: str) -> bool:
    """Whether a home is a path below the root, and no part of it hidden."""
    return all(part and not part.startswith(".") for part in home.split("/"))


def differences(one: Stage, other: Stage) -> str:
    """In which fields two stages differ, both values each."""
    left, right = leaves(one.as_dict()), leaves(other.as_dict())
    fields = [name for name in {**left, **right} if left.get(name) != right.get(name)]
    return "; ".join(f"{name} is {left.get(name)!r} there, {right.get(name)!r} here" for name in fields[:4])


def read_record(path: str, what: str, key: str) -> Record:
    """The record in a file, which must describe this key.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile, UnreadableFile: it cannot be believed, or not be read.
    """
    try:
        content = files.read(path, what)
    except NotADirectoryError as error:
        raise DamagedFile(f"{what} is not one of ours: {path}: {error.strerror}", f"look at it: less {path}") from None
    try:
        record = Record(
            Stage.from_dict(content),
            str(content["name"]),
            str(content["home"]),
            dict(content["placement"]),
            float(content["planned"]),
        )
        described = record.key
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise DamagedFile(f"{what} is not one of ours: {path}: {error!r}", f"look at it: less {path}") from None
    if described != key:
        raise DamagedFile(
            f"{what} does not describe its key: {path}: it describes {short(described)}, expected {short(key)}",
            f"look at it: less {path}",
        )
    return record


def encode_record(record: Record) -> bytes:
    """The content of its file."""
    return files.encode(
        {
            **record.stage.as_dict(),
            "name": record.name,
            "home": record.home,
            "placement": dict(record.placement),
            "planned": record.planned or time.time(),
            "user": process.current().user,
        }
    )
