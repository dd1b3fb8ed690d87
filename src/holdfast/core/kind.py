"""A kind is what a stage does: its params, its inputs, and a `run`.

Four ship (`holdfast.stages`); yours is `package.module:Class` and needs no registration:

    class Shout(Kind):
        name = "shout"
        inputs = ("text",)

        class Params(Params):
            times: int = 1

        def run(self, params, inputs, out):
            (out.path / "loud.txt").write_text((inputs["text"] / "text.txt").read_text().upper() * params.times)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from holdfast.core.errors import ConfigError
from holdfast.core.plugins import load_class, place
from holdfast.core.schema import Schema, validate
from holdfast.core.service import Service
from holdfast.core.stage import Ref, Stage

if TYPE_CHECKING:
    from holdfast.core.output import Output

SHIPPED = {
    "command": "holdfast.stages.command:Command",
    "train": "holdfast.stages.train:Train",
    "convert": "holdfast.stages.convert:Convert",
    "evaluate": "holdfast.stages.evaluate:Evaluate",
    "rollouts": "holdfast.stages.rollouts:Rollouts",
    "rollout_slice": "holdfast.stages.rollout_slice:RolloutSlice",
    "rescore": "holdfast.stages.rescore:Rescore",
    "import_rollouts": "holdfast.stages.import_rollouts:ImportRollouts",
}


@dataclass(frozen=True)
class Surroundings:
    """`directory` to run in (empty: the submitter's), `variables` to set, `folders` to make, `reads`: sha256 of files
    that must not have changed when an attempt starts, `progress`: see `execute.outsiders`, `stop_signal`: what asks the
    program to save.
    """

    directory: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    stop_signal: str = ""


class Params(Schema):
    """What people write for a stage."""


def added(default: Any, *, as_before: Any, **options: Any) -> Any:
    """A param that was added later. Where it equals `as_before` it is left out of the key, so finished work stays
    finished.
    """
    return Field(default, json_schema_extra={"as_before": as_before}, **options)


def placed(default: Any, **options: Any) -> Any:
    """A param that says how the work is run and not what it is: kept in the record's placement, never in the key."""
    return Field(default, json_schema_extra={"placed": True}, **options)


class Kind:
    """Base of all kinds. Instances hold no state.

    `exclusive`: the home is filled across attempts, and no second attempt starts without proof that the first is dead.
    Otherwise each attempt fills a temporary directory of its own, and two at once cost work but never truth.
    `loose`: globs of files that others append to; they are listed in the manifest, not sealed.
    `generations`: the home is a link to the newest result, so that it can be made anew under those who read it.
    `has_inner`: whether it may publish artifacts inside its home (checkpoints), which others can take by themselves.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False
    generations: ClassVar[bool] = False
    loose: ClassVar[tuple[str, ...]] = ()
    has_inner: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ()
    optional_inputs: ClassVar[tuple[str, ...]] = ()
    Params: ClassVar[type[Params]] = Params

    def home(self, name: str) -> str:
        """Where the artifact of this name goes, below the root."""
        return name

    def services(self, params: Any, inputs: Mapping[str, Path]) -> list[Service]:
        """Servers that must be up in the same job before `run` starts."""
        return []

    def command(self, params: Any, inputs: Mapping[str, Path], home: Path) -> list[str] | None:
        """The tokens of the program that does the work, or None for `run` in a Python process of ours."""
        return None

    def run(self, params: Any, inputs: Mapping[str, Path], out: Output) -> None:
        """Do the work and leave it in `out.path`."""
        raise NotImplementedError(f"{type(self).__name__} has neither run nor command")

    def published(self, params: Any, home: Path) -> None:
        """What is left to do once `home` is there."""

    def surroundings(self, params: Any) -> Surroundings:
        """What the supervisor must know of a program that we do not control, beside its tokens."""
        return Surroundings()

    def owed(self, params: Any, home: Path) -> str | None:
        """After a run that ended well: what is still missing in `home`, in words; None if it is complete."""
        return None

    def judge(self, params: Any, home: Path, output: Path) -> str | None:
        """`owed`, for a kind that must also know what the attempt printed."""
        return self.owed(params, home)

    def loose_files(self, params: Any) -> tuple[str, ...]:
        """The globs of `loose`, for a kind whose params add to them."""
        return self.loose

    def code(self, params: Any) -> dict[str, Any]:
        """What the manifest says of the code that did the work, beside ours."""
        return {}

    def parse(self, params: Mapping[str, Any], placement: Mapping[str, Any] | None = None) -> Any:
        """Validated params, with what the placement says of how they are run.

        Raises:
            ConfigError: names the stage's kind, the key, the value, and the nearest known key.
        """
        how = (placement or {}).get("params", {})
        return validate(self.Params, {**params, **how} if how else params, f"kind {self.name}")

    def stage(self, params: Mapping[str, Any], inputs: Mapping[str, Ref] | None = None) -> Stage:
        """The description of this work. Every param is part of it, defaults included."""
        wired = dict(inputs or {})
        self.check_inputs(wired)
        parsed = self.parse(params)
        filled = self.fill(params)
        if filled is not params:
            parsed = self.parse(filled)
        return Stage(identifier(type(self)), self.version, _canonical(parsed), wired)

    def fill(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """`params` with those that follow from what they name, and belong to the identity (a version, for example)."""
        return params

    def check_plan(self, params: Mapping[str, Any], inputs: Mapping[str, Ref]) -> None:
        """Whether what a person wrote in a plan can be meant so, beyond what params and inputs say by themselves.

        Raises:
            ConfigError: what cannot be meant, and what may be.
        """

    def placed_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `params` that say how the work is run: they belong to the placement."""
        marked = _placed_names(self.Params)
        return {name: value for name, value in params.items() if name in marked}

    def check_inputs(self, given: Mapping[str, Ref]) -> None:
        """Whether these are the inputs that the kind has.

        Raises:
            ConfigError: names both.
        """
        if set(given) - set(self.optional_inputs) != set(self.inputs):
            may = f" (and may have {sorted(self.optional_inputs)})" if self.optional_inputs else ""
            raise ConfigError(
                f"kind {self.name} has inputs {sorted(self.inputs)}{may}, given {sorted(given)}",
                f"write `inputs: {{{', '.join(f'{name}: ...' for name in self.inputs)}}}`",
            )


def _canonical(params: BaseModel) -> dict[str, Any]:
    dumped = params.model_dump(mode="json")
    for name, info in type(params).model_fields.items():
        extra = info.json_schema_extra
        if not isinstance(extra, dict):
            continue
        if _is_placed(extra) or ("as_before" in extra and dumped[name] == extra["as_before"]):
            del dumped[name]
    return dumped


@cache
def _placed_names(params: type[Params]) -> frozenset[str]:
    return frozenset(name for name, info in params.model_fields.items() if _is_placed(info.json_schema_extra))


def _is_placed(extra: object) -> bool:
    return isinstance(extra, dict) and "placed" in extra


def identifier(kind: type[Kind]) -> str:
    """The name that stage files carry: `train`, or `package.module:Class` for a kind from outside."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    return kind.name if SHIPPED.get(kind.name) == path else path


@cache
def load(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ConfigError: there is none, or it lacks what a kind must have.
    """
    found = load_class(name, SHIPPED, Kind, "kind")
    for problem, hint in _mistakes(found):
        raise ConfigError(f"kind `{name}` {problem}: {place(found)}", hint)
    return found()


def _mistakes(found: type[Kind]) -> Iterator[tuple[str, str]]:
    """What is wrong with a class, and what to write instead."""
    if not (name := getattr(found, "name", None)) or not isinstance(name, str):
        yield "has no name", f'add `name = "{found.__name__.lower()}"` to the class'
    inputs: object = found.inputs
    if not isinstance(inputs, tuple | list) or not all(isinstance(each, str) for each in inputs):
        yield f"has inputs {inputs!r}, expected a tuple of names", 'write `inputs = ("name",)`, with the comma'
    params: object = found.Params
    if not (isinstance(params, type) and issubclass(params, Params)):
        yield f"has Params {params!r}, expected a class of params", "derive it from holdfast.core.kind.Params"
    if found.run is Kind.run and found.command is Kind.command:
        yield "has neither run nor command", "add `def run(self, params, inputs, out)`, which fills out.path"
