"""PEFT adapters as they are saved: `adapter_config.json` and `adapter_model.safetensors`.

What is read here is LoRA in its plain form. An adapter whose config asks for more (DoRA, a changed base, ...) is
refused by the name of the field, since a merge that leaves it out is a wrong model.
The format: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.checkpoints.names import unwrap
from holdfast.checkpoints.recognise import ADAPTER_CONFIG
from holdfast.checkpoints.tensors import Tensor
from holdfast.core.errors import UserError

UNDERSTOOD = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "use_rslora",
    "modules_to_save", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "task_type",
    "base_model_name_or_path", "revision", "inference_mode", "peft_type", "auto_mapping", "peft_version",
    "init_lora_weights", "bias", "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
"""Fields that may say anything, since they are honoured here, or change nothing about the merged weights."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` that changed the base weights before training."""
MATRIX = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.(?!weight$)[^.]+)?(?:\.weight)?")
"""`MODULE.lora_A.weight`, with the adapter's name in between in checkpoints of the trainer's memory."""
SAVED = re.compile(r"\.modules_to_save(\.[^.]+)?(?=\.)")
FRONT = "base_model.model."


@dataclass(frozen=True)
class Pair:
    """The two factors of one module's change: its weight is changed by `scale * B @ A`."""

    a: Tensor
    """[rank, in]; of an embedding [rank, vocabulary]."""
    b: Tensor
    """[out, rank]; of an embedding [width, rank]."""
    scale: float
    transposed: bool
    """Whether the weight is stored as [in, out]: embeddings, and layers of GPT-2 (`fan_in_fan_out`)."""


@dataclass(frozen=True)
class Adapter:
    """What is added to a base model, by the names of the base's tensors."""

    pairs: Mapping[str, Pair]
    replaced: Mapping[str, Tensor]
    """Whole tensors that were trained beside (`modules_to_save`)."""
    config: Mapping[str, Any] = field(default_factory=dict)


def parse(tensors: Iterable[Tensor], config: Mapping[str, Any], where: Path) -> Adapter:
    """The adapter of a config and its tensors; `where` is what errors name.

    Raises:
        UserError: the config asks for what cannot be merged, or does not fit the tensors.
    """
    check_config(config, where)
    factors: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    for tensor in tensors:
        name = strip(tensor.name)
        match = MATRIX.fullmatch(name)
        if match:
            module, embedding, side = match.groups()
            factors.setdefault(module, {})[f"{embedding or ''}{side}"] = tensor
        elif ".lora_" in name:
            raise UserError(f"{tensor.name} in {where} is of no plain LoRA", "merge it with PEFT: merge_and_unload")
        else:
            replaced[name] = tensor
    pairs = {f"{module}.weight": _pair(module, found, config, where) for module, found in factors.items()}
    if not pairs and not replaced:
        raise UserError(f"there is no tensor of an adapter in {where}", "the file is empty")
    return Adapter(pairs, replaced, config)


def check_config(config: Mapping[str, Any], where: Path) -> None:
    """Refuse what is not plain LoRA.

    Raises:
        UserError: naming the field.
    """
    way_out = "merge it with PEFT (`merge_and_unload`), and convert the result"
    if config.get("peft_type") != "LORA":
        raise UserError(f"{where}: peft_type is {config.get('peft_type')!r}, only LORA can be merged", way_out)
    for name, value in config.items():
        if value and name not in UNDERSTOOD and _asks_for_something(value):
            raise UserError(f"{where}: {name} is {value!r}, and only plain LoRA can be merged", way_out)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(CHANGES_BASE):
        raise UserError(f"{where}: init_lora_weights is {start!r}, which changed the base weights", way_out)
    if config.get("bias", "none") != "none":
        raise UserError(f"{where}: bias is {config['bias']!r}, and only `none` can be merged", way_out)
    if config.get("lora_alpha") == 0:
        raise UserError(
            f"{where}: lora_alpha is 0, so the adapter would change nothing (a known error of verl's merger)",
            "write the lora_alpha of the training run into adapter_config.json",
        )


def _asks_for_something(value: Any) -> bool:
    return not isinstance(value, dict) or any(map(_asks_for_something, value.values()))


def strip(name: str) -> str:
    """The name without what PEFT and other wrappers put in, the factors' own part aside."""
    bare = unwrap(name).rpartition(FRONT)[2]
    return SAVED.sub("", bare).replace(".base_layer.", ".")


def _pair(module: str, found: Mapping[str, Tensor], config: Mapping[str, Any], where: Path) -> Pair:
    embedding = "embedding_A" in found
    front = "embedding_" * embedding
    a, b = found.get(f"{front}A"), found.get(f"{front}B")
    if a is None or b is None:
        raise UserError(f"{where} holds only one of the two factors of {module}", "the adapter is incomplete")
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise UserError(
            f"{where}: the factors of {module} have shapes {list(a.shape)} and {list(b.shape)}, which do not fit",
            "only layers with a matrix can be merged; merge others with PEFT (`merge_and_unload`)",
        )
    try:
        rank = _pattern(config, "rank_pattern", module, config.get("r"))
        alpha = float(_pattern(config, "alpha_pattern", module, config.get("lora_alpha")))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, re.error) as error:
        raise UserError(
            f"{where}: {ADAPTER_CONFIG} does not say the scale of {module}: {error}", "restore it from a copy"
        ) from None
    if rank != a.shape[0]:
        raise UserError(
            f"{where}: the factors of {module} have rank {a.shape[0]}, but the config says {rank}",
            "this is the config of another adapter",
        )
    return Pair(a, b, scale, embedding or bool(config.get("fan_in_fan_out")))


def _pattern(config: Mapping[str, Any], table: str, module: str, otherwise: Any) -> Any:
    """A module's own value: the first key that matches the end of its name, as PEFT's `get_pattern_key` has it."""
    for key, value in (config.get(table) or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise
