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
from holdfast.execute.choose import ClusterDefaults
from holdfast.pipelines import conversion, placing

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
    """See `placing.resources`: an engine here takes one GPU unless more are asked for, and some take none."""
    if engine == "url":
        return 1, gpus or 0, ""
    if engine in WITHOUT_WEIGHTS:
        gpus = gpus or 0
    return placing.resources(nodes, gpus, defaults, on_cluster=on_cluster, most_here=1)


def usual_engine(gpus: int | None, *, on_cluster: bool) -> str:
    """The engine where nobody named one: vllm where GPUs are asked for, and transformers elsewhere. What the planning
    machine has makes no difference.
    """
    return "vllm" if gpus or (gpus is None and on_cluster) else "transformers"


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
