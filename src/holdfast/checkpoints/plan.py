"""What a conversion will write, found and checked before a byte of a tensor is copied.

Everything that can be wrong about a checkpoint is found here: format, names, shapes, holes, tied weights, the model
that it belongs to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.checkpoints import adapter, contents, layout, lora, model_files, snapshots, source_model, tied, tiling
from holdfast.checkpoints.architectures.required import Architecture
from holdfast.checkpoints.contents import Contents
from holdfast.checkpoints.recognise import ADAPTER_CONFIG, Recognised, recognise
from holdfast.checkpoints.selection import Asked, Model, Options, find_source, select
from holdfast.checkpoints.snapshots import Snapshot
from holdfast.checkpoints.source_model import SourceModel
from holdfast.checkpoints.tensors import ITEM_SIZES, Computed, Tensor
from holdfast.core.errors import UserError

STORED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
SCALES = ("_scale", "_scale_inv", "_scales", "qweight", "_packed", "absmax", "_blocks")
"""Ends of names that only quantized weights have."""
Content = bytes | Path
"""What a small file holds, or the file that it is a copy of."""


@dataclass(frozen=True)
class Plan:
    """Everything that will be in the new directory."""

    recognised: Recognised
    source: SourceModel | None
    """Whose config and tokenizer are taken; None for an adapter that stays one."""
    tensors: Mapping[str, Tensor | Computed]
    """By the names that they get, sorted."""
    dtype: str | None
    """The safetensors name of the dtype that floating point tensors are cast to, if any."""
    files: Mapping[str, Content]
    """The small files, by name in the new directory."""
    said_by: str
    """Who knew which tensors are needed."""
    left_out: Mapping[str, str]
    """The checkpoint's own names, and why."""
    notes: tuple[str, ...]
    """What a person should know and may not expect."""
    snapshot: Snapshot
    """Of every file that is read."""

    @property
    def is_adapter(self) -> bool:
        return ADAPTER_CONFIG in self.files


def plan(path: Path, options: Options | None = None) -> Plan:
    """Find out what the checkpoint at `path` becomes.

    Raises:
        UserError: it cannot be converted; the message names the file, the tensor or the field.
    """
    options = options or Options()
    found = recognise(path)
    run_config = options.run_config or (found.run_config if options.reads_run else None)
    asked = Asked(found, source_model.read_run_config(run_config) if run_config else None, options)
    content = contents.read(found)
    planned = _plan(asked, content)
    snapshots.check(content.described)
    return planned


def _plan(asked: Asked, content: Contents) -> Plan:
    mine = [name for name in content.entries if asked.found.format == "adapter" or _is_adapters(name)]
    if mine:
        return _plan_adapter(asked, content, mine)
    source = find_source(asked)
    model = select(asked, source, content, content.entries)
    return _finish(asked, source, model, model.tensors, content.files)


def _is_adapters(name: str) -> bool:
    """Whether a tensor in a checkpoint of the trainer's memory belongs to an adapter, not to the model below."""
    return ".lora_" in name or ".modules_to_save." in name


def _plan_adapter(asked: Asked, content: Contents, mine: Collection[str]) -> Plan:
    where = asked.found.weights
    config_file = _find_adapter_config(where)
    said = model_files.read_json(config_file)
    parsed = adapter.parse(map(tiling.check, content.locate(mine).values()), said, where)
    others = [name for name in content.entries if name not in set(mine)]
    files = {*content.files, config_file}
    if asked.options.adapter == "export":
        return _plan_export(asked, parsed, dict.fromkeys(others, "of the base model"), files)
    source = find_source(asked, said.get("base_model_name_or_path"))
    if not others:
        below = recognise(source.directory)
        content = contents.read(below)
        others, asked = list(content.entries), replace(asked, found=replace(asked.found, weights=below.weights))
    model = select(asked, source, content, others)
    merged = lora.merge(model.tensors, parsed, where)
    _check_tied(merged, model.architecture, where)
    return _finish(asked, source, model, merged, files | content.files)


def _find_adapter_config(weights: Path) -> Path:
    verls = weights / "lora_adapter"
    places = [directory / ADAPTER_CONFIG for directory in (weights, verls, *list(weights.parents)[:2])]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(
            f"{weights} holds an adapter, but there is no {ADAPTER_CONFIG} in it or just above: its alpha is not known",
            f"write one: {places[0]}",
        )
    return found


def _check_tied(merged: Mapping[str, Tensor | Computed], architecture: Architecture, where: Path) -> None:
    """An adapter may have trained a tied output layer apart from the embedding."""
    for name, other in architecture.tied.items():
        twins = merged.get(name), merged.get(other)
        if twins[0] is None:
            continue
        if not (isinstance(twins[0], Tensor) and isinstance(twins[1], Tensor) and tied.equal(twins[0], twins[1])):
            raise UserError(
                f"{where} changes {name}, which the base model's config ties to {other} (tie_word_embeddings)",
                "merge into a base whose output layer is its own: override tie_word_embeddings=false there",
            )


def _plan_export(asked: Asked, parsed: adapter.Adapter, left_out: Mapping[str, str], read: Collection[Path]) -> Plan:
    tensors, config = lora.export(parsed)
    tokenizer = model_files.find_tokenizer(_tokenizer_places(asked, None))
    files: dict[str, Content] = {ADAPTER_CONFIG: model_files.write_json(config), **tokenizer}
    snapshot = snapshots.take([*read, *tokenizer.values()])
    said_by = "the adapter itself"
    return Plan(asked.found, None, tensors, _cast_of(asked), files, said_by, left_out, (), snapshot)


def _finish(
    asked: Asked,
    source: SourceModel,
    model: Model,
    tensors: Mapping[str, Tensor | Computed],
    read: Collection[Path],
) -> Plan:
    """The plan with its small files."""
    dtype = _cast_of(asked)
    chosen = [(tensor, layout.choose_dtype(tensor, dtype)) for tensor in tensors.values()]
    config = model_files.set_dtype(
        model.config, [(kept, tensor.nbytes // ITEM_SIZES[tensor.dtype] * ITEM_SIZES[kept]) for tensor, kept in chosen]
    )
    notes = []
    if "quantization_config" in config and not any(name.endswith(SCALES) for name in tensors):
        config.pop("quantization_config")
        notes.append("quantization_config is left out of config.json: the checkpoint's weights are not quantized")
    tokenizer = model_files.find_tokenizer(_tokenizer_places(asked, source))
    places = [each for each in (asked.found.model, source.directory) if each]
    files: dict[str, Content] = dict(tokenizer)
    files[model_files.CONFIG] = model_files.write_json(config)
    files[model_files.GENERATION] = model_files.write_json(model_files.make_generation_config(places, config))
    if template := _template(asked):
        files[model_files.TEMPLATE] = template.encode()
    notes += _note_files(tokenizer, places)
    config_files = [place / name for place in places for name in (model_files.CONFIG, model_files.GENERATION)]
    runs = [asked.run.path] if asked.run else []
    snapshot = snapshots.take([*read, *tokenizer.values(), *runs, *(each for each in config_files if each.is_file())])
    return Plan(
        recognised=asked.found,
        source=source,
        tensors=dict(sorted(tensors.items())),
        dtype=dtype,
        files=dict(sorted(files.items())),
        said_by=model.architecture.said_by,
        left_out=dict(sorted(model.left_out.items())),
        notes=tuple(notes),
        snapshot=snapshot,
    )


def _template(asked: Asked) -> str | None:
    """A template of the run's own; a tokenizer that was saved with the weights has it already."""
    if asked.options.chat_template:
        return asked.options.chat_template
    is_saved = asked.found.tokenizer or asked.options.tokenizer
    return asked.run.chat_template if asked.run and not is_saved else None


def reads_base(found: Recognised) -> bool:
    """Whether the weights of another model are read, too: those below an adapter that was saved alone."""
    entries = contents.read(found).entries
    return found.format == "adapter" or (bool(entries) and all(map(_is_adapters, entries)))


def _cast_of(asked: Asked) -> str | None:
    return STORED.get(asked.options.dtype)


def _tokenizer_places(asked: Asked, source: SourceModel | None) -> list[Path]:
    """Where a tokenizer may be, the best first: asked for, saved with the weights, named by the run, the source's."""
    if asked.options.tokenizer:
        return [source_model.resolve(asked.options.tokenizer).directory]
    places = [asked.found.tokenizer, asked.found.model]
    named = asked.run.tokenizer if asked.run else None
    if named and asked.run and named != asked.run.model and not asked.found.tokenizer:
        places.append(source_model.resolve(named).directory)
    return [place for place in (*places, source.directory if source else None) if place]


def _note_files(tokenizer: Mapping[str, Path], places: Collection[Path]) -> list[str]:
    notes = []
    if not tokenizer:
        notes.append(f"no tokenizer in {' or '.join(map(str, places))}: the model is converted without one")
    code = [path.name for path in model_files.find_code(places)]
    if code:
        notes.append(f"programs of the source model are not carried over: {', '.join(code)}")
    return notes
