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

from holdfast.core import kind
from holdfast.core.config import key_of
from holdfast.core.errors import UserError
from holdfast.core.plan import Plan
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.execute.choose import ClusterDefaults
from holdfast.pipelines import conversion, models, points
from holdfast.pipelines.conversion import Conversion
from holdfast.pipelines.evaluate import params as stage_params
from holdfast.pipelines.evaluate import settings as configs
from holdfast.pipelines.evaluate.request import DEFAULT_NAME, Request, wanted, wish
from holdfast.pipelines.evaluate.settings import Settings
from holdfast.pipelines.launch.intent import is_override
from holdfast.pipelines.models import Models
from holdfast.pipelines.points import Cell, Cells
from holdfast.sweeps.space import Point
from holdfast.sweeps.tokens import override_text

FOLDER = "evals"
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
        self.by_hand = {key_of(token) for token in request.tokens if is_override(token)}
        self.base = configs.read(self.wanted.config)
        self.notes: list[str] = []
        self.models = Models(store)
        self.on_cluster = self.placed.executor == "slurm"
        base = f"{self.placed.jobname or DEFAULT_NAME}{f'-{stamp}' if stamp else ''}"
        points.check_name(base)
        self.name = f"{base}_sweep" if self.wanted.sweep else base

    def plan(self) -> Evaluations:
        asked = wish(self.request)
        self.conversion = conversion.plan(asked, self.store) if asked else None
        if self.conversion:
            self.models.adopted.update((record.key, record) for record in self.conversion.adopted)
        sweep = self.wanted.sweep
        keys: list[str] = []
        if sweep:
            points.check_room(self.store, f"{FOLDER}/{self.name}")
            keys = points.label_keys(sweep, self.by_hand)
        cells = points.plan(sweep, keys, self._cell)
        return Evaluations(
            self.name,
            cells,
            self.conversion,
            tuple(self.models.adopted.values()),
            tuple(dict.fromkeys(self.notes)),
            bool(sweep),
        )

    def _cell(self, point: Point, label: str) -> Cell:
        swept = [f"{key}={override_text(value)}" for key, value in point.items() if key_of(key) not in self.by_hand]
        found = self.base.settle([*swept, *self.request.tokens])
        engine = stage_params.engine_of(found, gpus=self.placed.gpus, on_cluster=self.on_cluster)
        overridden = self.by_hand | {key_of(key) for key in point}
        model, step = self._model(found, engine, overridden)
        nodes, gpus = self._resources(found, engine)
        params = stage_params.params(found, engine, step) | {"accept_missing": self.request.accept_missing}
        params |= {} if model else _by_name(found, engine)
        self._look_at(params)
        evaluate = kind.load("evaluate")
        how = evaluate.placed_params(params) | self._spread(found, engine, gpus)
        stage = evaluate.stage(
            {**params, **({"again": self.stamp} if self.stamp else {})}, {"model": model} if model else {}
        )
        wanted_name = f"{self.name}/{label}" if label else self.name
        home = points.settle_home(
            self.store, stage, f"{FOLDER}/{wanted_name}", self.notes, asked=bool(self.placed.jobname)
        )
        placement = {"params": how, "gpus": gpus, "nodes": nodes, "point": {key_of(key): point[key] for key in point}}
        return Cell(Record(stage, home.removeprefix(f"{FOLDER}/"), home, placement), point, label, nodes, gpus)

    def _model(self, found: Settings, engine: str, overridden: set[str]) -> tuple[Ref | None, int | None]:
        """The model directory that is evaluated, None for one that only its server has; and the optimizer step that it
        is of, where its path says so. A checkpoint goes before the model of the config, which is what training began
        from.
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
        if engine in models.WITHOUT_WEIGHTS and not Path(name).is_dir():
            return None, None
        ref = self.models.ref(name, MODEL, f"have it converted: --dcp-ckpt-path {name}")
        return ref, _step_of(Path(name).absolute()) if Path(name).is_dir() else None

    def _resources(self, found: Settings, engine: str) -> tuple[int, int]:
        cluster = found.config.cluster
        said = {key: getattr(cluster, key) for key in ("num_nodes", "gpus_per_node") if f"cluster.{key}" in found.said}
        gpus = said.get("gpus_per_node") if self.placed.gpus is None else self.placed.gpus
        nodes = self.placed.nodes or said.get("num_nodes")
        nodes, gpus, note = models.resources(engine, nodes, gpus, self.defaults, on_cluster=self.on_cluster)
        self.notes += [note] if note else []
        return nodes, gpus

    def _spread(self, found: Settings, engine: str, gpus: int) -> dict[str, Any]:
        vllm = found.config.generation.vllm_cfg
        sizes = (vllm.tensor_parallel_size, vllm.pipeline_parallel_size)
        return models.spread(
            engine, *sizes, gpus, ("generation.vllm_cfg: tensor_parallel_size", "pipeline_parallel_size")
        )

    def _look_at(self, params: Mapping[str, Any]) -> None:
        for note in _remarks(params):
            self.notes.append(note)


def _by_name(found: Settings, engine: str) -> dict[str, Any]:
    """A model of which we have no files: what it is called, and that its server is to have it under that name.

    Raises:
        UserError: nobody named it.
    """
    name = found.config.generation.model_name
    if engine == "url" and MODEL not in found.said:
        raise UserError("a server is to be asked, and nobody said for which model", f"name it: {MODEL}=NAME")
    return {"model": name, **({"served_name": name} if engine == "url" else {})}


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
