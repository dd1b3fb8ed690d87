"""What a plan says of a model: which directory, known by its contents, and how many GPUs and copies serve it."""

from __future__ import annotations

from typing import Any

from holdfast.checkpoints import source_model
from holdfast.checkpoints.recognise import recognise
from holdfast.core.adopt import adopt
from holdfast.core.errors import UserError
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.execute import slots
from holdfast.execute.choose import ClusterDefaults
from holdfast.pipelines import conversion

GPUS_OF_A_CLUSTER = 8
WITHOUT_WEIGHTS = ("url", "fake")
"""Engines that use no GPU of ours."""


class Models:
    """The models that one plan takes in, each once; `adopted` are those that others made."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.adopted: dict[str, Record] = {}
        self._refs: dict[str, Ref] = {}

    def ref(self, name: str, key: str, way_out: str) -> Ref:
        """The model directory of this name; `key` is where a person wrote it, `way_out` what to do with a checkpoint.

        Raises:
            UserError: there is none, or it is something that no engine reads.
        """
        if name not in self._refs:
            self._refs[name] = self._adopt(name, key, way_out)
        return self._refs[name]

    def _adopt(self, name: str, key: str, way_out: str) -> Ref:
        directory = source_model.resolve(name).directory
        is_model = recognise(directory)
        if is_model.format != "model directory":
            raise UserError(f"{key}={name} is {is_model.sentence}, which no engine reads", way_out)
        own = conversion.owner(self.store, directory)
        if own:
            return own
        record = adopt(self.store, directory)
        self.adopted[record.key] = record
        return Ref(record.key)


def resources(
    engine: str, nodes: int | None, gpus: int | None, defaults: ClusterDefaults, *, on_cluster: bool
) -> tuple[int, int, str]:
    """Nodes, GPUs of each, and what is to be said of it: what was asked for, what is saved of a cluster, what its
    nodes have, what is needed.
    """
    nodes = nodes or (on_cluster and defaults.nodes) or 1
    if engine == "url":
        return 1, gpus or 0, ""
    if engine in WITHOUT_WEIGHTS:
        gpus = gpus or 0
    if on_cluster:
        usual = GPUS_OF_A_CLUSTER if defaults.gpus is None else defaults.gpus
        return nodes, usual if gpus is None else gpus, ""
    note = f"this machine is one node, {nodes} are asked for: running on 1" if nodes > 1 else ""
    return 1, min(1, len(slots.devices())) if gpus is None else gpus, note


def spread(engine: str, tensor: int, pipeline: int, gpus: int, keys: tuple[str, str]) -> dict[str, Any]:
    """Copies of the model on a node: as many as its GPUs hold. `keys` are where a person wrote the sizes.

    Raises:
        UserError: one copy needs more GPUs than a node has.
    """
    if engine not in ("vllm", "sglang"):
        return {}
    one = tensor * pipeline
    if one > gpus:
        raise UserError(
            f"{keys[0]} {tensor} x {keys[1]} {pipeline} is {one} GPUs, and each node has {gpus}",
            "ask for more with --gpus, or make it smaller",
        )
    return {"data_parallel": gpus // one}
