"""The tensors of one model out of all that a checkpoint holds, proven to be exactly those that its config asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from holdfast.checkpoints import experts, model_files, source_model, tied, tiling
from holdfast.checkpoints.architectures import required
from holdfast.checkpoints.architectures.required import Architecture
from holdfast.checkpoints.contents import Contents
from holdfast.checkpoints.names import rename
from holdfast.checkpoints.recognise import Recognised
from holdfast.checkpoints.source_model import RunConfig, SourceModel
from holdfast.checkpoints.tensors import Tensor
from holdfast.core import config as config_files
from holdfast.core.errors import UserError

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Options:
    """What a person may say about a conversion; all of it can be left out where the checkpoint says enough."""

    dtype: Dtype = "auto"
    """`auto` keeps what the checkpoint has."""
    run_config: Path | None = None
    """`config.yaml` of a NeMo RL run (`--dcp-config`); one beside the weights is found without it."""
    model: str | None = None
    """The model that training began from: a directory, or a name of the hub that is in the local cache."""
    revision: str | None = None
    """Of a name of the hub."""
    tokenizer: str | None = None
    """A directory or a name of the hub, instead of the one that was saved with the weights."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """For `config.json`, section by section, over those of the run."""
    chat_template: str | None = None
    """Text of a template instead of the tokenizer's."""
    adapter: Literal["merge", "export"] = "merge"
    """What becomes of an adapter: a whole model, or a clean PEFT directory."""
    reads_run: bool = True
    """Whether a `config.yaml` that lies beside the weights is read where none is given."""


@dataclass(frozen=True)
class Asked:
    """What is to be converted, and what is known about it beside its tensors."""

    found: Recognised
    run: RunConfig | None
    options: Options

    @property
    def overrides(self) -> dict[str, Any]:
        of_run = dict(self.run.overrides) if self.run else {}
        return config_files.merge(of_run, dict(self.options.overrides))


@dataclass(frozen=True)
class Model:
    """The tensors of a whole model, by their final names, and the config that they were checked against."""

    config: Mapping[str, Any]
    architecture: Architecture
    tensors: Mapping[str, Tensor]
    left_out: Mapping[str, str]
    """The checkpoint's own names, and why."""


def find_source(asked: Asked, otherwise: str | None = None) -> SourceModel:
    """The model that the config comes from: the one asked for, the one saved with the weights, the run's, `otherwise`.

    Raises:
        UserError: nobody names one, or it is not on this machine.
    """
    if asked.options.model:
        return source_model.resolve(asked.options.model, asked.options.revision)
    if asked.found.model:
        return SourceModel(str(asked.found.model), asked.found.model)
    name = asked.run.model if asked.run else otherwise
    if not name:
        raise UserError(
            f"{asked.found.weights} is {asked.found.sentence}, which does not say of what model",
            "name the model that training began from, or give the run's config.yaml",
        )
    return source_model.resolve(name, asked.options.revision)


def select(asked: Asked, source: SourceModel, content: Contents, names: Iterable[str]) -> Model:
    """The model that the tensors `names` of a checkpoint are, under the architecture's names.

    Raises:
        UserError: they are not exactly those of the architecture, one has a hole, or tied ones differ.
    """
    config = model_files.make_config(source.directory, asked.overrides)
    architecture = _require(config, source, asked.found)
    names = list(names)
    _refuse_torchtitan(names, architecture, asked.found)
    renamed = rename(names, architecture.shapes.keys() | architecture.tied.keys())
    located = content.locate(renamed.stored.values())
    tensors = {name: replace(tiling.check(located[stored]), name=name) for name, stored in renamed.stored.items()}
    tensors = experts.unstack(tied.name_by_twin(tensors, architecture.tied), architecture.shapes)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    required.check(shapes, architecture, source.directory / model_files.CONFIG)
    kept, twins = tied.drop(tensors, architecture.tied)
    dropped = {renamed.stored[name]: why for name, why in twins.items()}
    return Model(config, architecture, kept, {**content.others, **renamed.left_out, **dropped})


def _require(config: Mapping[str, Any], source: SourceModel, found: Recognised) -> Architecture:
    """Weights are no witness to their own completeness, as long as somebody else can be asked."""
    own = source.directory == found.weights and required.has_template(config)
    return required.require(config, None if own else source.directory)


def _refuse_torchtitan(names: Iterable[str], architecture: Architecture, found: Recognised) -> None:
    """Its own names do not tell which of its versions wrote them, and with that in which order the rows of the query
    and key projections are: the model could be quietly wrong.
    """
    theirs = "tok_embeddings.weight"
    if theirs not in architecture.shapes and any(name.endswith(theirs) for name in names):
        converter = "python scripts/checkpoint_conversion/convert_to_hf.py"
        raise UserError(
            f"{found.weights} has the names of torchtitan's own models ({theirs}): how it orders the rows of queries "
            "and keys depends on its version",
            f"convert it with the torchtitan that trained it: `{converter} {found.weights} OUT --hf_assets_path MODEL "
            "--model_name NAME --model_flavor FLAVOR`, or save with `checkpoint.last_save_in_hf`",
        )
