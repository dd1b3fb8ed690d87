"""Plans what is made from rollouts that are there: new rewards, and collections that other programs made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.core import artifact, config, kind, near
from holdfast.core.adopt import adopt
from holdfast.core.errors import ConfigError, UserError
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.stage import Ref, Stage
from holdfast.core.store import Store
from holdfast.pipelines import points
from holdfast.pipelines.rollouts.planner import FOLDER
from holdfast.stages.rollout_files import ROLLOUTS

KINDS = ("rollouts", "rescore", "import_rollouts")


@dataclass(frozen=True)
class Derived:
    """One stage; `adopted` is what others made."""

    record: Record
    adopted: tuple[Record, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        return Plan([self.record], self.adopted)


def plan_rescore(
    source: str, store: Store, tokens: Sequence[str], environment: str | None, name: str | None, accept_missing: int
) -> Derived:
    """New rewards for the rollouts of `source`: by the environment that they were collected with, whose settings
    `tokens` change, or by another one.

    Raises:
        UserError: no such rollouts, or nothing that judges them.
    """
    record = find(source, store)
    params = record.stage.params
    by = environment or params.get("environment")
    if by is None:
        raise ConfigError(f"`{record.name}` does not say who judged it", "name an environment: --environment NAME")
    settings = dict(params.get("settings", {})) if by == params.get("environment") else {}
    settings = config.apply({"settings": settings}, [f"++settings.{token.lstrip('+')}" for token in tokens])["settings"]
    said = {"environment": by, "settings": settings, "accept_missing": accept_missing}
    rescore = kind.load("rescore")
    stage = rescore.stage(said, {"rollouts": Ref(record.key)})
    return _derived(store, stage, name, f"{record.name}-rescored", placed=rescore.placed_params(said))


def plan_import(path: Path, store: Store, name: str | None) -> Derived:
    """The rollouts of a file as an artifact.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        close = near.path(path)
        raise UserError(
            f"there are no rollouts at {path.absolute()}",
            f"did you mean `{close}`?" if close else "give a file of JSON lines",
        )
    record = adopt(store, path)
    stage = kind.load("import_rollouts").stage({}, {"rollouts": Ref(record.key)})
    return _derived(store, stage, name, path.stem, adopted=(record,))


def find(source: str, store: Store) -> Record:
    """The stage that made rollouts, by name, home or key.

    Raises:
        UserError: there is none, or it made something else.
    """
    below = store.owner(f"{FOLDER}/{source}")
    record = store.read(below) if below else store.find(source)
    if record.stage.kind not in KINDS:
        raise UserError(f"`{record.name}` is a stage of kind {record.stage.kind}", "name a collection of rollouts")
    return record


def published(source: str, store: Store) -> Path:
    """The file of rollouts that a person means: a file, a directory with one, or a collection that is complete.

    Raises:
        UserError: there is none.
    """
    path = Path(source)
    if path.is_file() or (path / ROLLOUTS).is_file():
        return path if path.is_file() else path / ROLLOUTS
    record = find(source, store)
    home = store.home(record)
    if artifact.holds(home, record.key) is None:
        raise UserError(f"`{record.name}` is not complete yet", f"holdfast rollout owed {record.name}")
    return home / ROLLOUTS


def _derived(
    store: Store,
    stage: Stage,
    name: str | None,
    otherwise: str,
    *,
    placed: dict[str, Any] | None = None,
    adopted: tuple[Record, ...] = (),
) -> Derived:
    points.check_name(name or otherwise)
    notes: list[str] = []
    home = points.settle_home(store, stage, f"{FOLDER}/{name or otherwise}", notes, asked=bool(name))
    placement = {"params": placed or {}, "gpus": 0, "nodes": 1}
    return Derived(Record(stage, home.removeprefix(f"{FOLDER}/"), home, placement), adopted, notes)
