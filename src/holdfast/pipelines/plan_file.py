"""Reads a plan that a person wrote.

    stages:
      base:    {kind: command, params: {command: ["{python}", warm_up.py, --out, "{out}"]}}
      grpo:    {kind: train, params: {run: grpo, steps: 150, save_at: [75, 150]}, inputs: {model: base}}
      half:    {kind: convert, inputs: {checkpoint: grpo/training_state/step_75}}

An input is the name of a stage, with a path behind it for an artifact inside it; what begins with `/`, `./`, `../` or
`~/` is a directory or a file that others made. docs/guides/plans.md has the whole of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast import trackers
from holdfast.core import artifact, config, kind, near, plugins
from holdfast.core.adopt import adopt
from holdfast.core.errors import ConfigError, unknown_key
from holdfast.core.plan import Plan
from holdfast.core.record import Record, is_below
from holdfast.core.stage import Ref
from holdfast.core.store import RESERVED, Store

FIELDS = ("kind", "params", "inputs", "gpus", "trackers")
NAME = re.compile(r"[\w.+%@-]{1,120}")


def read(path: Path, overrides: Sequence[str], store: Store) -> Plan:
    """The plan in a YAML file.

    Raises:
        ConfigError: it says something impossible; what, where, and the nearest thing that would be possible.
    """
    content = config.load(path, overrides)
    for key in content:
        if key != "stages":
            raise unknown_key(key, ["stages"], f"plan {path}")
    stages = content.get("stages")
    if not isinstance(stages, dict) or not stages:
        raise ConfigError(
            f"plan {path} has no stages: it holds {stages!r}", "write `stages: {name: {kind: ..., params: ...}}`"
        )
    # Kinds of one's own: where the command was typed, then beside the plan.
    plugins.look_in(os.getcwd())
    plugins.look_in(str(path.absolute().parent))
    return _Reading(stages, store).plan()


class _Reading:
    """Resolves names depth first, so that each stage comes after its inputs."""

    def __init__(self, stages: Mapping[Any, Any], store: Store) -> None:
        self.stages = stages
        self.store = store
        self.records: dict[str, Record] = {}
        self.adopted: list[Record] = []

    def plan(self) -> Plan:
        for name in self.stages:
            self._record(name, ())
        return Plan(self.records.values(), self.adopted)

    def _record(self, name: str, trail: tuple[str, ...]) -> Record:
        if name in trail:
            raise ConfigError(f"inputs go in a circle: {' -> '.join((*trail, name))}", "break it")
        if name not in self.records:
            self.records[name] = self._make(name, (*trail, name))
        return self.records[name]

    def _make(self, name: str, trail: tuple[str, ...]) -> Record:
        entry = self._entry(name)
        implementation = kind.load(entry["kind"])
        inputs = {each: self._ref(text, name, trail) for each, text in (entry.get("inputs") or {}).items()}
        params = entry.get("params") or {}
        stage = implementation.stage(params, inputs)
        implementation.check_plan(params, inputs)
        home = implementation.home(name)
        if not is_below(home):
            raise ConfigError(
                f"stage `{name}` would go to {home!r}, which is not below the root", "mend its kind's home"
            )
        if home in RESERVED:
            raise ConfigError(
                f"stage `{name}` would go to {home}, which is a folder of holdfast's own", "give it another name"
            )
        return Record(stage, name, home, _placement(entry, implementation))

    def _entry(self, name: Any) -> Mapping[str, Any]:
        entry = self.stages[name]
        if not isinstance(name, str) or not NAME.fullmatch(name) or name[0] == "." or len(name.encode()) > 120:
            raise ConfigError(
                f"stage name {name!r} cannot be a directory's name", "use letters, digits and . _ + % @ -"
            )
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise ConfigError(f"stage `{name}` has no kind: it holds {entry!r}", f"kinds: {', '.join(kind.SHIPPED)}")
        for key in entry:
            if key not in FIELDS:
                raise unknown_key(str(key), list(FIELDS), f"stage `{name}`")
        gpus = entry.get("gpus") or 0
        if type(gpus) is not int or gpus < 0:
            raise ConfigError(f"stage `{name}`: gpus is {gpus!r}, expected a number from 0", "write `gpus: 1`")
        _check_trackers(entry.get("trackers", []), name)
        if not isinstance(entry.get("inputs") or {}, dict):
            raise ConfigError(
                f"stage `{name}`: inputs is {entry['inputs']!r}, expected a mapping", "write `inputs: {name: stage}`"
            )
        return entry

    def _ref(self, text: Any, name: str, trail: tuple[str, ...]) -> Ref:
        if not isinstance(text, str):
            raise ConfigError(f"stage `{name}`: input {text!r} is not a name", "write the name of a stage, or a path")
        if text.startswith(("/", "./", "../", "~/")):
            record = adopt(self.store, Path(text).expanduser())
            self.adopted.append(record)
            return Ref(record.key)
        supplier, _, path = text.rstrip("/").partition("/")
        if supplier not in self.stages:
            error = unknown_key(supplier, list(self.stages), "plan")
            raise ConfigError(f"stage `{name}` takes `{text}`, but the {error}", error.hint)
        ref = Ref(self._record(supplier, trail).key, path)
        if path:
            self._check_inner(ref, supplier, name)
        return ref

    def _check_inner(self, ref: Ref, supplier: str, name: str) -> None:
        """Whether the artifact inside of `supplier` is there, or may still come."""
        record = self.records[supplier]
        home = self.store.home(record)
        manifest = artifact.holds(home, record.key)
        there = [str(each.get("path")) for each in manifest.content.get("inner", [])] if manifest else []
        if ref.path in there or artifact.holds(home / ref.path, ref.key, ref.path):
            return
        takes = f"stage `{name}` takes `{supplier}/{ref.path}`"
        if manifest:
            close = near.name(ref.path, there)
            raise ConfigError(
                f"{takes}, but {supplier} is complete and has no artifact `{ref.path}` in it; "
                f"it has: {near.listed(there)}",
                f"did you mean `{supplier}/{close}`?" if close else _as_file(ref.path, supplier),
            )
        if not kind.load(record.stage.kind).has_inner:
            raise ConfigError(
                f"{takes}, but kind {record.stage.kind} publishes no artifacts inside its home",
                _as_file(ref.path, supplier),
            )


def _placement(entry: Mapping[str, Any], implementation: kind.Kind) -> dict[str, Any]:
    """What the stage's entry says of how and where it is run."""
    found = {field: entry.get(field) for field in ("gpus", "trackers")}
    found["params"] = implementation.placed_params(entry.get("params") or {})
    found["kind_from"] = plugins.source(type(implementation).__module__)
    return {field: value for field, value in found.items() if value}


def _as_file(path: str, supplier: str) -> str:
    return f"for a file in it, take all of it, `x: {supplier}`, and write {{inputs.x}}/{path} in the command"


def _check_trackers(names: Any, stage: str) -> None:
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise ConfigError(f"stage `{stage}`: trackers is {names!r}, expected a list", "write `trackers: [wandb]`")
    for each in names:
        trackers.load(each)
