"""What a `config.json` asks for: the exact names and shapes, from whoever knows them best.

In this order: the headers of the source model's own safetensors; the templates; a model without storage in a child
process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.checkpoints.architectures import meta_model, templates
from holdfast.checkpoints.architectures.templates import LM_HEAD, TEMPLATES, Shape
from holdfast.checkpoints.shards import read_model
from holdfast.core.errors import UserError

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
"""How the names of token embeddings end."""
BUFFERS = ("rotary_emb.inv_freq", "attn.masked_bias")
"""Ends of names that old checkpoints hold and nothing reads: what they hold follows from the config."""
SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "num_key_value_heads", "num_experts", "num_local_experts", "moe_intermediate_size", "mlp_only_layers",
    "shared_expert_intermediate_size", "decoder_sparse_step", "tie_word_embeddings", "model_type", "architectures",
    "attention_bias", "mlp_bias", "qkv_bias", "text_config",
)  # fmt: skip
"""Fields on which names and shapes depend."""
SHOWN = 3
"""Names that an error lists before it only counts."""


@dataclass(frozen=True)
class Architecture:
    """The tensors that a model has, and who said so."""

    shapes: Mapping[str, Shape]
    tied: Mapping[str, str]
    """Names that are not stored, with the name of the tensor that they are."""
    said_by: str


def require(config: Mapping[str, Any], source: Path | None = None) -> Architecture:
    """The tensors of a model of `config`; `source` is the model directory that the config came from.

    Raises:
        UserError: nobody can say, or the config lacks a field.
    """
    headers = _read_headers(source) if source and _same_sizes(config, source) else {}
    if headers:
        return _from_headers(headers, config, source)
    if has_template(config):
        return _from_template(TEMPLATES[str(config["model_type"])], config)
    answer = meta_model.ask(dict(config))
    shapes = {name: tuple(sizes) for name, sizes in answer["shapes"].items()}
    return Architecture(shapes, answer["tied"], "a model that transformers made of the config")


def has_template(config: Mapping[str, Any]) -> bool:
    """Whether a template says what a model of `config` needs, so that nobody else has to be asked."""
    return str(config.get("model_type")) in TEMPLATES and _is_causal(config)


def check(found: Mapping[str, Shape], wanted: Architecture, config: Path) -> None:
    """Refuse tensors that are not exactly those of the architecture.

    Raises:
        UserError: one is missing, left over, or of another shape; it is named.
    """
    missing = sorted(name for name in wanted.shapes if name not in found and name not in wanted.tied)
    surplus = sorted(name for name in found if name not in wanted.shapes and name not in wanted.tied)
    if missing or surplus:
        parts = [f"{what} {_list(names)}" for what, names in (("lacks", missing), ("has besides", surplus)) if names]
        raise UserError(
            f"the checkpoint does not fit {config}: it {', and '.join(parts)} (as {wanted.said_by} says)",
            "give the config of the model that was trained, or the whole checkpoint",
        )
    wrong = [name for name, shape in sorted(found.items()) if wanted.shapes.get(name, shape) != shape]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"the checkpoint does not fit {config}: {first} is {_sizes(found[first])}, but the architecture's is "
            f"{_sizes(wanted.shapes[first])} (as {wanted.said_by} says); {len(wrong)} of {len(found)} shapes differ",
            "this is another architecture's config",
        )


def is_buffer(name: str) -> bool:
    return name.endswith(BUFFERS)


def find_embedding(names: Iterable[str]) -> str | None:
    """The token embedding's name, if there is exactly one that looks like it."""
    found = [name for name in names if name.endswith(EMBEDDINGS)]
    return found[0] if len(found) == 1 else None


def _from_headers(headers: Mapping[str, Shape], config: Mapping[str, Any], source: Path | None) -> Architecture:
    embedding = find_embedding(headers)
    tied = {LM_HEAD: embedding} if embedding and _is_tied(config, headers) else {}
    shapes = {name: shape for name, shape in headers.items() if name not in tied}
    return Architecture(shapes, tied, f"the weights in {source}")


def _is_tied(config: Mapping[str, Any], headers: Mapping[str, Shape]) -> bool:
    """What the config says; where it says nothing and no template knows, a model without an output layer is tied."""
    text = config.get("text_config")
    inner = text.get("tie_word_embeddings") if isinstance(text, dict) else None
    said = config.get("tie_word_embeddings", inner)
    if said is not None:
        return bool(said)
    if str(config.get("model_type")) in TEMPLATES:
        return templates.tied_by(config)
    return LM_HEAD not in headers


def _from_template(template: templates.Template, config: Mapping[str, Any]) -> Architecture:
    kind = config["model_type"]
    try:
        shapes = templates.fill(template, config)
    except KeyError as field:
        raise UserError(
            f"the config of a {kind} model lacks {field}", "give the config.json of the model that was trained"
        ) from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"the config of a {kind} model has sizes that are none: {error}", "restore config.json"
        ) from None
    tied = {} if LM_HEAD in shapes else {LM_HEAD: templates.EMBEDDING}
    return Architecture(shapes, tied, f"the template of {kind}")


def _is_causal(config: Mapping[str, Any]) -> bool:
    return all(str(name).endswith("ForCausalLM") for name in config.get("architectures") or ())


def _same_sizes(config: Mapping[str, Any], source: Path) -> bool:
    """Whether the source's weights are those of this config: an override may have made another model of it."""
    import json

    try:
        own = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(own.get(field) == config.get(field) for field in SIZES)


def _read_headers(source: Path) -> dict[str, Shape]:
    """Shapes in the safetensors of a model directory; nothing if there are none, or not all are there."""
    found = {name: tensor.shape for name, tensor in read_model(source).items()}
    return {name: shape for name, shape in found.items() if not is_buffer(name)}


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"
