"""The points of a sweep: a grid, groups that go together, and a draw from what they span.

script_path: examples/train_grpo.py
config_path: examples/configs/grpo.yaml
optim.lr: [1e-6, 5e-6]                    # every value with every other
seed: 0                                   # one value
zip: [{model.size: [1, 3], train.batch: [64, 32]}]   # first with first, second with second
random: {n: 20, seed: 1}                  # so many of all, drawn without repetition; more later keeps the first
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import config
from holdfast.core.errors import ConfigError, unknown_key

RESERVED = ("script_path", "config_path", "zip", "random")
MOST_POINTS = 100_000
EXACT = 2**53
"""So many cells a draw can tell apart."""

Point = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """`n` of all cells, by `seed`."""

    n: int
    seed: int = 0


@dataclass(frozen=True)
class Sweep:
    """`axes` are mappings of keys to lists of equal length: one key for a grid, several for a group that goes together.
    `fixed` are the keys with one value.
    """

    where: str
    axes: tuple[Mapping[str, list[Any]], ...]
    fixed: Point
    draw: Draw | None = None
    script: str | None = None
    config: str | None = None

    @property
    def size(self) -> int:
        """Cells of the whole grid."""
        return math.prod(_length(axis) for axis in self.axes)

    @property
    def swept(self) -> list[str]:
        """Every key that it sets."""
        return [*self.fixed, *(key for axis in self.axes for key in axis)]

    def points(self) -> list[Point]:
        """All cells as nested loops give them, the last key fastest; or those that are drawn, as they are drawn.

        Raises:
            ConfigError: more than anybody can mean.
        """
        count = min(self.draw.n, self.size) if self.draw else self.size
        if count > MOST_POINTS:
            raise ConfigError(
                f"sweep {self.where} has {count} points, more than {MOST_POINTS}",
                "draw some: `random: {n: 100, seed: 0}`",
            )
        numbers = _drawn(count, self.size, self.draw.seed) if self.draw else range(count)
        return [{**self.fixed, **self._cell(number)} for number in numbers]

    def _cell(self, number: int) -> Point:
        cell: Point = {}
        for axis in reversed(self.axes):
            number, index = divmod(number, _length(axis))
            cell = {**{key: values[index] for key, values in axis.items()}, **cell}
        return cell


def _length(axis: Mapping[str, list[Any]]) -> int:
    return len(next(iter(axis.values())))


def _drawn(count: int, size: int, seed: int) -> list[int]:
    """Distinct numbers below `size`; a larger count begins with the same ones."""
    if size > EXACT:
        raise ConfigError(f"a draw from {size} cells is not exact", "sweep fewer keys")
    draw, chosen = random.Random(seed), dict[int, None]()
    while len(chosen) < count:
        chosen[int(draw.random() * size)] = None
    return list(chosen)


def read(path: Path) -> Sweep:
    """The sweep in a YAML file.

    Raises:
        ConfigError: it says something impossible: what, where, and what would be possible.
    """
    return parse(config.read(path), str(path))


def parse(content: Mapping[str, Any], where: str) -> Sweep:
    """The sweep that a mapping describes."""
    axes: list[dict[str, list[Any]]] = []
    fixed: Point = {}
    for key, value in content.items():
        if key in RESERVED:
            continue
        if isinstance(value, list):
            axes.append({key: _values(key, value, where)})
        elif isinstance(value, dict):
            raise ConfigError(
                f"sweep {where}: `{key}` is a section, expected a value or a list: {value!r}",
                f"write dotted keys: {key}.{next(iter(value), 'name')}: [...]",
            )
        else:
            fixed[key] = value
    axes += _groups(content.get("zip", []), where)
    _check_once([*fixed, *(key for axis in axes for key in axis)], where)
    if not axes and not fixed:
        raise ConfigError(f"sweep {where} sweeps over nothing", "add a line like `optim.lr: [1e-6, 5e-6]`")
    return Sweep(where, tuple(axes), fixed, _draw(content.get("random"), where), *_paths(content, where))


def _values(key: str, values: list[Any], where: str) -> list[Any]:
    if not values:
        raise ConfigError(f"sweep {where}: `{key}` is an empty list", "give it values, or take the line out")
    return values


def _groups(groups: Any, where: str) -> list[dict[str, list[Any]]]:
    hint = "write `zip: [{a: [1, 2], b: [3, 4]}]`"
    if not isinstance(groups, list):
        raise ConfigError(f"sweep {where}: zip is {groups!r}, expected a list of groups", hint)
    for group in groups:
        if not isinstance(group, dict) or not group or not all(isinstance(values, list) for values in group.values()):
            raise ConfigError(f"sweep {where}: zip holds {group!r}, expected keys with lists", hint)
        lengths = {str(key): len(_values(str(key), values, where)) for key, values in group.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ConfigError(
                f"sweep {where}: lists that go together differ in length: {told}", "make them equally long"
            )
    return [{str(key): values for key, values in group.items()} for group in groups]


def _check_once(keys: list[str], where: str) -> None:
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ConfigError(f"sweep {where}: `{twice[0]}` is swept twice", "take one of the lines out")


def _draw(content: Any, where: str) -> Draw | None:
    if content is None:
        return None
    hint = "write `random: {n: 20, seed: 0}`"
    if not isinstance(content, dict):
        raise ConfigError(f"sweep {where}: random is {content!r}, expected a mapping", hint)
    for key in content:
        if key not in ("n", "seed"):
            raise unknown_key(str(key), ["n", "seed"], f"random of sweep {where}")
    n, seed = content.get("n"), content.get("seed", 0)
    if type(n) is not int or n < 1 or type(seed) is not int:
        raise ConfigError(f"sweep {where}: random has n {n!r} and seed {seed!r}, expected numbers, n from 1", hint)
    return Draw(n, seed)


def _paths(content: Mapping[str, Any], where: str) -> tuple[str | None, str | None]:
    for key in ("script_path", "config_path"):
        value = content.get(key)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"sweep {where}: {key} is {value!r}, expected a path", f"write `{key}: path/to/file`")
    return content.get("script_path"), content.get("config_path")
