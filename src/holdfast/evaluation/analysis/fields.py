"""Any field of a row, for a breakdown by it: at the top, in `prompt`, or in `info`; or where a dotted name says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.core.errors import ConfigError, UserError
from holdfast.evaluation.analysis.columns import Words

INSIDE = ("prompt", "info")
MOST = 10_000
"""Values of one field; with more there is nothing to break down."""
ABSENT = b""
Tree = dict[str, Any]


class Fields:
    """Numbers the values of each field, in the order in which they come. Values stay as they are written until the end,
    so that only distinct ones are parsed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        for name in names:
            if not name or any(not part for part in name.split(".")):
                raise ConfigError(
                    f"`{name}` is no name of a field", "--by dim_board,box_type, or --by prompt.dim_board"
                )
        self.names = list(names)
        self._paths = [_paths(name) for name in names]
        self._words = [Words() for _ in names]
        tree: Tree = {}
        for path in (path for paths in self._paths for path in paths):
            _plant(tree, path)
        self._decoder = msgspec.json.Decoder(_struct(tree))
        self._attributes = _attributes(tree)

    def of_chunk(self, data: bytes, count: int) -> list[list[int]]:
        """The numbers of `count` rows, by field."""
        try:
            rows = self._decoder.decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rows = []
        if len(rows) != count:
            return self.of_lines(data.splitlines())
        return self._number([self._pick(row) for row in rows])

    def of_lines(self, lines: Sequence[bytes]) -> list[list[int]]:
        """As `of_chunk`, each line by itself."""
        return self._number([self._pick_patiently(line) for line in lines])

    def values(self) -> list[list[str]]:
        """The values of each field by number, as JSON; empty where a row has none."""
        return [[_spell(word) for word in words] for words in self._words]

    def _number(self, picked: Sequence[Sequence[bytes]]) -> list[list[int]]:
        columns = [
            list(map(words.__getitem__, column))
            for words, column in zip(self._words, _turn(picked, len(self.names)), strict=True)
        ]
        for name, words in zip(self.names, self._words, strict=True):
            if len(words) > MOST:
                raise UserError(
                    f"field `{name}` has more than {MOST:,} values: there is nothing to break down",
                    "name a field that many rows share, such as --by dim_board",
                )
        return columns

    def _pick(self, row: Any) -> list[bytes]:
        return [next(filter(None, (self._follow(row, path) for path in paths)), ABSENT) for paths in self._paths]

    def _follow(self, row: Any, path: Sequence[str]) -> bytes:
        for place in range(len(path)):
            attribute = self._attributes.get(tuple(path[: place + 1]))
            if attribute is None or not isinstance(row, msgspec.Struct):
                return ABSENT
            row = getattr(row, attribute)
        return bytes(row) if isinstance(row, msgspec.Raw) else ABSENT

    def _pick_patiently(self, line: bytes) -> list[bytes]:
        try:
            return self._pick(self._decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            return [ABSENT] * len(self.names)
        return [next(filter(None, (_dig(content, path) for path in paths)), ABSENT) for paths in self._paths]


def _turn(rows: Sequence[Sequence[bytes]], columns: int) -> list[tuple[bytes, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * columns


def _paths(name: str) -> list[tuple[str, ...]]:
    if "." in name:
        return [tuple(name.split("."))]
    return [(name,), *((outer, name) for outer in INSIDE)]


def _plant(tree: Tree, path: Sequence[str]) -> None:
    """A leaf is an empty tree; where a name is a leaf and a branch it stays a branch, since only that can be asked."""
    for name in path:
        tree = tree.setdefault(name, {})


def _struct(tree: Tree) -> type[msgspec.Struct]:
    names = {f"field_{number}": name for number, name in enumerate(tree)}
    fields = [(each, _type(tree[name]), None if tree[name] else msgspec.Raw()) for each, name in names.items()]
    return msgspec.defstruct("Picked", fields, rename=names)


def _type(tree: Tree) -> Any:
    if not tree:
        return msgspec.Raw
    return _struct(tree) | str | float | bool | list[msgspec.Raw] | None


def _attributes(tree: Tree, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    found = {}
    for number, (name, inner) in enumerate(tree.items()):
        found[(*before, name)] = f"field_{number}"
        found |= _attributes(inner, (*before, name))
    return found


def _dig(content: Any, path: Sequence[str]) -> bytes:
    for name in path:
        if not isinstance(content, dict) or name not in content:
            return ABSENT
        content = content[name]
    return json.dumps(content).encode()


def _spell(word: bytes) -> str:
    if not word:
        return ""
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return word.decode(errors="replace")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
