"""Plans evaluations: one `evaluate` stage for each point, and before them the conversion that all of them share.

Placement holds how: nodes, GPUs, the engine's parallelism. A model is known by its contents, so that the conversion of
a checkpoint is one stage however many evaluations take it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.checkpoints import source_model
from holdfast.checkpoints.recognise import recognise
from holdfast.core import kind
from holdfast.core.adopt import adopt
from holdfast.core.errors import UserError
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.execute import slots
from holdfast.execute.choose import ClusterDefaults
from holdfast.pipelines import conversion, points
from holdfast.pipelines.conversion import Conversion
from holdfast.pipelines.evaluate import params as stage_params
from holdfast.pipelines.evaluate import settings as configs
from holdfast.pipelines.evaluate.request import DEFAULT_NAME, Request, wanted, wish
from holdfast.pipelines.evaluate.settings import Settings
from holdfast.pipelines.launch.intent import is_override, key_of
from holdfast.pipelines.points import Cell, Cells
from holdfast.sweeps.space import Point
from holdfast.sweeps.tokens import override_text

FOLDER = "evals"
GPUS_OF_A_CLUSTER = 8
MODEL = "generation.model_name"


@dataclass(frozen=True)
class Evaluations:
    """What one command line plans. `conversion` is None where no checkpoint is given; `adopted` are the models that
    others made; `notes` are for the person who evaluates.
    """

    name: str
    cells: Cells
    conversion: Conversion | None
    adopted: tuple[Record, ...]
    notes: tuple[str, ...]
    is_sweep: bool

    @property
    def plan(self) -> Plan:
        """The conversion first."""
        record = self.conversion.record if self.conversion else None
        return Plan([*([record] if record else []), *(cell.record for cell in self.cells.each)], self.adopted)


def plan(request: Request, defaults: ClusterDefaults, store: Store, stamp: str = "") -> Evaluations:
    """The plan of one command line. `stamp` tells a fresh result (`--new`) from the ones before.

    Raises:
        UserError: it asks for something impossible.
    """
    return _Planning(request, defaults, store, stamp).plan()


class _Planning:
    def __init__(self, request: Request, defaults: ClusterDefaults, store: Store, stamp: str) -> None:
        self.request = request
        self.placed = request.placed
        self.defaults = defaults
        self.store = store
        self.stamp = stamp
        self.wanted = wanted(request)
        self.notes: list[str] = []
        self.adopted: dict[str, Record] = {}
        self.models: dict[str, Ref] = {}
        self.on_cluster = self.placed.executor == "slurm"
        base = f"{self.placed.jobname or DEFAULT_NAME}{f'-{stamp}' if stamp else ''}"
        points.check_name(base)
        self.name = f"{base}_sweep" if self.wanted.sweep else base

    def plan(self) -> Evaluations:
        asked = wish(self.request)
        self.conversion = conversion.plan(asked, self.store) if asked else None
        if self.conversion:
            self.adopted.update((record.key, record) for record in self.conversion.adopted)
        sweep = self.wanted.sweep
        keys: list[str] = []
        if sweep:
            points.check_room(self.store, f"{FOLDER}/{self.name}")
            keys = points.label_keys(sweep, self._by_hand(), key_of)
        cells = points.plan(sweep, keys, self._cell)
        return Evaluations(
            self.name,
            cells,
            self.conversion,
            tuple(self.adopted.values()),
            tuple(dict.fromkeys(self.notes)),
            bool(sweep),
        )

    def _by_hand(self) -> set[str]:
        return {key_of(token) for token in self.request.tokens if is_override(token)}

    def _cell(self, point: Point, label: str) -> Cell:
        by_hand = self._by_hand()
        swept = [f"{key}={override_text(value)}" for key, value in point.items() if key_of(key) not in by_hand]
        overrides = [*swept, *self.request.tokens]
        found = configs.settle(self.wanted.config, overrides)
        model, step = self._model(found, {key_of(token) for token in overrides})
        engine = stage_params.engine_of(found, gpus=self.placed.gpus, on_cluster=self.on_cluster)
        nodes, gpus = self._resources(found, engine)
        params = stage_params.params(found, engine, step) | {"accept_missing": self.request.accept_missing}
        self._look_at(params)
        evaluate = kind.load("evaluate")
        how = evaluate.placed_params(params) | self._spread(found, engine, gpus)
        stage = evaluate.stage({**params, **({"again": self.stamp} if self.stamp else {})}, {"model": model})
        wanted_name = f"{self.name}/{label}" if label else self.name
        home = points.settle_home(
            self.store, stage, f"{FOLDER}/{wanted_name}", self.notes, asked=bool(self.placed.jobname)
        )
        placement = {"params": how, "gpus": gpus, "nodes": nodes, "point": {key_of(key): point[key] for key in point}}
        return Cell(Record(stage, home.removeprefix(f"{FOLDER}/"), home, placement), point, label, nodes, gpus)

    def _model(self, found: Settings, overridden: set[str]) -> tuple[Ref, int | None]:
        """The model directory that is evaluated, and the optimizer step that it is of, where its path says so. A
        checkpoint goes before the model of the config, which is what training began from.
        """
        if self.conversion:
            if MODEL in overridden:
                raise UserError(
                    f"two models: {MODEL}={found.config.generation.model_name}, and a checkpoint that is converted",
                    "leave one of them out",
                )
            path = self.request.checkpoint or self.request.hf_path
            return self.conversion.model, _step_of(path.absolute()) if path else None
        name = found.config.generation.model_name
        if name not in self.models:
            self.models[name] = self._adopt(name)
        return self.models[name], _step_of(Path(name).absolute()) if Path(name).is_dir() else None

    def _adopt(self, name: str) -> Ref:
        directory = source_model.resolve(name).directory
        is_model = recognise(directory)
        if is_model.format != "model directory":
            raise UserError(
                f"{MODEL}={name} is {is_model.sentence}, which no engine reads",
                f"have it converted: --dcp-ckpt-path {name}",
            )
        own = conversion.owner(self.store, directory)
        if own:
            return own
        record = adopt(self.store, directory)
        self.adopted[record.key] = record
        return Ref(record.key)

    def _resources(self, found: Settings, engine: str) -> tuple[int, int]:
        """Nodes, and GPUs of each: flag, config, what is saved of a cluster, what its nodes have, what is needed."""
        cluster = found.config.cluster
        nodes = self.placed.nodes or (cluster.num_nodes if "cluster.num_nodes" in found.said else None)
        nodes = nodes or (self.on_cluster and self.defaults.nodes) or 1
        gpus = self.placed.gpus
        if gpus is None and "cluster.gpus_per_node" in found.said:
            gpus = cluster.gpus_per_node
        if engine == "url":
            return 1, gpus or 0
        if engine == "fake":
            gpus = gpus or 0
        if self.on_cluster:
            usual = GPUS_OF_A_CLUSTER if self.defaults.gpus is None else self.defaults.gpus
            return nodes, usual if gpus is None else gpus
        if nodes > 1:
            self.notes.append(f"this machine is one node, {nodes} are asked for: running on 1")
        return 1, min(1, len(slots.devices())) if gpus is None else gpus

    def _spread(self, found: Settings, engine: str, gpus: int) -> dict[str, Any]:
        """Copies of the model on a node: as many as its GPUs hold.

        Raises:
            UserError: one copy needs more GPUs than a node has.
        """
        vllm = found.config.generation.vllm_cfg
        one = vllm.tensor_parallel_size * vllm.pipeline_parallel_size
        if engine not in ("vllm", "sglang"):
            return {}
        if one > gpus:
            raise UserError(
                f"generation.vllm_cfg: tensor_parallel_size {vllm.tensor_parallel_size} x pipeline_parallel_size "
                f"{vllm.pipeline_parallel_size} is {one} GPUs, and each node has {gpus}",
                "ask for more with --gpus, or make it smaller",
            )
        return {"data_parallel": gpus // one}

    def _look_at(self, params: Mapping[str, Any]) -> None:
        for note in _remarks(params):
            self.notes.append(note)


def _remarks(params: Mapping[str, Any]) -> Iterator[str]:
    if params["temperature"] == 0 and params["repeats"] > 1:
        yield (
            f"greedy decoding (temperature 0) with {params['repeats']} responses to each prompt: they will hardly "
            "differ, and their number does not narrow the interval"
        )


def _step_of(path: Path) -> int | None:
    for each in (path, *path.parents):
        if match := re.fullmatch(r"(?:global_)?step[_-]?(\d+)|checkpoint-(\d+)", each.name):
            return int(match[1] or match[2])
    return None
