"""Plans a collection of rollouts: one `rollouts` stage, and where it is sliced, a stage for each slice before it.

A name is bound to one collection. The same config goes on; more repeats or appended prompts go on, too, beside what was
published; any other change is refused with the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holdfast.core import kind
from holdfast.core.errors import ConfigError, NameTaken, UserError
from holdfast.core.plan import IN_FLIGHT, Plan, Reader
from holdfast.core.record import Record, differences
from holdfast.core.stage import Ref, Stage
from holdfast.core.store import Store
from holdfast.execute.choose import ClusterDefaults
from holdfast.pipelines import models, points
from holdfast.pipelines.models import Models
from holdfast.pipelines.rollouts import params as stage_params
from holdfast.pipelines.rollouts.request import Request
from holdfast.pipelines.rollouts.settings import Settings
from holdfast.stages.problems import Problems
from holdfast.stages.rollouts import Rollouts

FOLDER = "rollouts"
SLICE = "rollout_slice"
GROWS = ("repeats", "settings", "prompt_set")
"""Params that say how much of a collection is wanted, as long as its rows stay what they are."""


@dataclass(frozen=True)
class Collected:
    """What one command line plans. `record` publishes, `slices` collect for it; `notes` are for the person."""

    record: Record
    slices: tuple[Record, ...]
    adopted: tuple[Record, ...]
    prompts: int
    notes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        return Plan([*self.slices, self.record], self.adopted)


def plan(request: Request, defaults: ClusterDefaults, store: Store, stamp: str = "") -> Collected:
    """The plan of one command line. `stamp` tells a fresh collection (`--new`) from the ones before.

    Raises:
        UserError: it asks for something impossible, or for other rollouts under a name that is taken.
    """
    return _Planning(request, defaults, store, stamp).plan()


class _Planning:
    def __init__(self, request: Request, defaults: ClusterDefaults, store: Store, stamp: str) -> None:
        self.request = request
        self.defaults = defaults
        self.store = store
        self.stamp = stamp
        self.settings = request.settings()
        self.on_cluster = request.placed.executor == "slurm"
        self.models = Models(store)
        self.notes: list[str] = []

    def plan(self) -> Collected:
        found = self.settings
        engine = stage_params.engine_of(found, gpus=self.request.placed.gpus, on_cluster=self.on_cluster)
        said = stage_params.params(found, engine)
        if gone := stage_params.left_out(found, engine):
            self.notes.append(f"engine {engine} has no {', '.join(gone)}: left out")
        inputs = self._model(found, engine)
        if not inputs:
            said["model"] = found.config.model
        rollouts = kind.load("rollouts")
        rollouts.check_plan(said, inputs)
        problems = Problems(rollouts.parse(said))
        count = len(problems.ids())
        stage = rollouts.stage({**said, **({"again": self.stamp} if self.stamp else {})}, inputs)
        home = self._home(found, stage, count)
        nodes, gpus = self._resources(found, engine)
        how = rollouts.placed_params(said) | self._spread(found, engine, gpus)
        placement = {"params": how, "gpus": gpus, "nodes": nodes, "retries": self._retries(found)}
        record = Record(stage, home.removeprefix(f"{FOLDER}/"), home, placement)
        slices = self._slices(record, min(self.request.slices or 1, count))
        self._refuse_other_slicing(record, slices)
        return Collected(
            _after(record, slices), slices, tuple(self.models.adopted.values()), count, tuple(filter(None, self.notes))
        )

    def _retries(self, found: Settings) -> int:
        return 0 if self.request.once else found.config.collection.retries

    def _model(self, found: Settings, engine: str) -> dict[str, Ref]:
        """The model as an input; empty where nobody here has its files."""
        name = str(found.config.model)
        if engine in models.WITHOUT_WEIGHTS and not Path(name).is_dir():
            return {}
        return {"model": self.models.ref(name, "model", f"have it converted: holdfast convert {name}")}

    def _resources(self, found: Settings, engine: str) -> tuple[int, int]:
        placed, cluster = self.request.placed, found.config.cluster
        said = cluster.num_nodes if "cluster.num_nodes" in found.said else None
        nodes, gpus, note = models.resources(
            engine,
            placed.nodes or said,
            placed.gpus if placed.gpus is not None else cluster.gpus_per_node,
            self.defaults,
            on_cluster=self.on_cluster,
        )
        self.notes.append(note)
        return nodes, gpus

    def _spread(self, found: Settings, engine: str, gpus: int) -> dict[str, Any]:
        said = found.config.engine
        keys = ("engine: tensor_parallel", "pipeline_parallel")
        return models.spread(engine, said.tensor_parallel, said.pipeline_parallel, gpus, keys)

    def _home(self, found: Settings, stage: Stage, prompts: int) -> str:
        """Where the collection is, or will be.

        Raises:
            NameTaken: other rollouts have this name.
        """
        name = f"{found.name}-{self.stamp}" if self.stamp else found.name
        points.check_name(name)
        try:
            return points.settle_home(self.store, stage, f"{FOLDER}/{name}", self.notes, asked=True)
        except NameTaken as error:
            other = self._owner(f"{FOLDER}/{name}")
            if other is None:
                raise
            if not _is_more_of(other, stage):
                raise _changed(name, other, stage) from error
        beside = f"{FOLDER}/{name}-{prompts}x{found.config.repeats}"
        self.notes.append(f"`{name}` is there with other prompts or repeats: this is `{beside}`, on the same rollouts")
        return points.settle_home(self.store, stage, beside, self.notes, asked=False)

    def _owner(self, home: str) -> Stage | None:
        """Whose home it is; None where that is not written, or not written yet."""
        owner = self.store.owner(home)
        try:
            return self.store.read(owner).stage if owner else None
        except FileNotFoundError:
            return None

    def _slices(self, record: Record, count: int) -> tuple[Record, ...]:
        if count <= 1:
            return ()
        slice_kind = kind.load(SLICE)
        made = []
        for number in range(count):
            label = f"{number}of{count}"
            stage = slice_kind.stage({**record.stage.params, "slice": label, **_of_plan(record)}, record.stage.inputs)
            home = f"{record.home}_slices/{label}"
            made.append(Record(stage, home.removeprefix(f"{FOLDER}/"), home, record.placement))
        return tuple(made)

    def _refuse_other_slicing(self, record: Record, slices: tuple[Record, ...]) -> None:
        """
        Raises:
            UserError: tasks of another slicing are still at it: both would play the same rollouts.
        """
        reader, mine = Reader(self.store), {each.key for each in slices}
        beginning = quote(f"{record.home}_slices/", safe="=+ ")
        homes = self.store.homes.iterdir() if self.store.homes.is_dir() else ()
        owners = [self.store.read(each.readlink().name) for each in homes if each.name.startswith(beginning)]
        flying = [each for each in owners if each.key not in mine and reader.standing(each).state in IN_FLIGHT]
        if flying:
            raise UserError(
                f"`{flying[0].name}` and {len(flying) - 1} more tasks of another slicing are in flight",
                f"wait for them, or: holdfast cancel {' '.join(each.name for each in flying[:3])}",
            )


def _of_plan(record: Record) -> dict[str, Any]:
    """The placed params that planning reads, where a stage is made from another one's params."""
    return {"prompts": record.placement["params"].get("prompts", "")}


def _after(record: Record, slices: tuple[Record, ...]) -> Record:
    """What publishes, once these are complete: it needs neither engine nor GPU, nor tries of its own."""
    if not slices:
        return record
    needs = [{"home": each.home, "key": each.key, "path": ""} for each in slices]
    how = {**record.placement["params"], "sliced": True}
    return replace(record, placement={"params": how, "gpus": 0, "nodes": 1, "retries": 0, "after": needs})


def _is_more_of(one: Stage, other: Stage) -> bool:
    """Whether two stages differ only in how much of one collection they want."""
    if (one.kind, one.version, one.inputs) != (other.kind, other.version, other.inputs):
        return False
    if _without(one.params) != _without(other.params):
        return False
    return _source(one.params) == _source(other.params)


def _without(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in GROWS}


def _source(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return Problems(Rollouts().parse(params)).episodes.identity()


def _changed(name: str, there: Stage, here: Stage) -> ConfigError:
    return ConfigError(
        f"`{name}` holds other rollouts: {differences(there, here)}",
        f"--new starts beside them; or choose another `name`, or give them up: holdfast rm rollouts/{name}",
    )
