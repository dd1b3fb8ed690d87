"""Names and shapes of the tensors of common architectures, as `save_pretrained` writes them, as data.

A shape is a tuple of names of sizes (`hidden`, `kv`, ...), which `measure` computes from a `config.json`. The tables
are held against models that transformers makes from such configs (tests/checkpoints/architectures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]
Names = Mapping[str, tuple[str, ...]]
"""Tensor name to the names of its sizes."""

LM_HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"

OUTSIDE: Names = {EMBEDDING: ("vocab", "hidden"), "model.norm.weight": ("hidden",)}
QKV: Names = {
    "self_attn.q_proj.weight": ("q", "hidden"),
    "self_attn.k_proj.weight": ("kv", "hidden"),
    "self_attn.v_proj.weight": ("kv", "hidden"),
}
QKV_BIAS: Names = {
    "self_attn.q_proj.bias": ("q",),
    "self_attn.k_proj.bias": ("kv",),
    "self_attn.v_proj.bias": ("kv",),
}
ATTENTION: Names = {**QKV, "self_attn.o_proj.weight": ("hidden", "q")}
ATTENTION_BIAS: Names = {**QKV_BIAS, "self_attn.o_proj.bias": ("hidden",)}
HEAD_NORMS: Names = {"self_attn.q_norm.weight": ("head",), "self_attn.k_norm.weight": ("head",)}
WIDE_NORMS: Names = {"self_attn.q_norm.weight": ("q",), "self_attn.k_norm.weight": ("kv",)}
NORM_BEFORE: Names = {"input_layernorm.weight": ("hidden",)}
NORM_AFTER: Names = {"post_attention_layernorm.weight": ("hidden",)}
NORM_LAST: Names = {"post_feedforward_layernorm.weight": ("hidden",)}
NORM_PRE_FEEDFORWARD: Names = {"pre_feedforward_layernorm.weight": ("hidden",)}
NORMS: Names = {**NORM_BEFORE, **NORM_AFTER}
GATED: Names = {
    "mlp.gate_proj.weight": ("ffn", "hidden"),
    "mlp.up_proj.weight": ("ffn", "hidden"),
    "mlp.down_proj.weight": ("hidden", "ffn"),
}
GATED_BIAS: Names = {
    "mlp.gate_proj.bias": ("ffn",),
    "mlp.up_proj.bias": ("ffn",),
    "mlp.down_proj.bias": ("hidden",),
}
ROUTER: Names = {"mlp.gate.weight": ("experts", "hidden")}
EXPERT: Names = {
    "mlp.experts.{expert}.gate_proj.weight": ("expert_ffn", "hidden"),
    "mlp.experts.{expert}.up_proj.weight": ("expert_ffn", "hidden"),
    "mlp.experts.{expert}.down_proj.weight": ("hidden", "expert_ffn"),
}
SHARED_EXPERT: Names = {
    "mlp.shared_expert.gate_proj.weight": ("shared_ffn", "hidden"),
    "mlp.shared_expert.up_proj.weight": ("shared_ffn", "hidden"),
    "mlp.shared_expert.down_proj.weight": ("hidden", "shared_ffn"),
    "mlp.shared_expert_gate.weight": ("one", "hidden"),
}


@dataclass(frozen=True)
class Template:
    """One `model_type`. Fields that a config leaves out have the values that transformers gives them."""

    layer: Names
    """In every layer."""
    dense: Names = field(default_factory=lambda: GATED)
    """In layers without experts."""
    sparse: Names = field(default_factory=dict)
    """In layers with experts; `{expert}` stands for each."""
    outside: Names = field(default_factory=lambda: OUTSIDE)
    flags: Mapping[str, Names] = field(default_factory=dict)
    """Config field to what every layer also has where it is true."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    expert_ffn: str = "moe_intermediate_size"
    """The config field that holds the width of an expert."""


BIASES = {"attention_bias": ATTENTION_BIAS}
BOTH_BIASES = {**BIASES, "mlp_bias": GATED_BIAS}
GEMMA = {"head_dim": 256, "tie_word_embeddings": True}
LLAMA = Template({**ATTENTION, **NORMS}, flags=BOTH_BIASES)
OLMO2 = Template({**ATTENTION, **WIDE_NORMS, **NORM_AFTER, **NORM_LAST}, flags=BIASES)
GEMMA2_LAYER: Names = {**ATTENTION, **NORMS, **NORM_PRE_FEEDFORWARD, **NORM_LAST}

TEMPLATES: Mapping[str, Template] = {
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": Template(
        LLAMA.layer, flags=BOTH_BIASES, defaults={"num_key_value_heads": 4, "tie_word_embeddings": True}
    ),
    "mistral": Template({**ATTENTION, **NORMS}, defaults={"num_key_value_heads": 8}),
    "qwen2": Template({**ATTENTION, **QKV_BIAS, **NORMS}, defaults={"num_key_value_heads": 32}),
    "qwen3": Template(
        {**ATTENTION, **HEAD_NORMS, **NORMS}, flags=BIASES, defaults={"num_key_value_heads": 32, "head_dim": 128}
    ),
    "gemma": Template({**ATTENTION, **NORMS}, flags=BIASES, defaults={**GEMMA, "num_key_value_heads": 16}),
    "gemma2": Template(GEMMA2_LAYER, flags=BIASES, defaults={**GEMMA, "num_key_value_heads": 4}),
    "gemma3_text": Template({**GEMMA2_LAYER, **HEAD_NORMS}, flags=BIASES, defaults={**GEMMA, "num_key_value_heads": 4}),
    "phi3": Template(
        {"self_attn.qkv_proj.weight": ("qkv", "hidden"), "self_attn.o_proj.weight": ("hidden", "q"), **NORMS},
        dense={"mlp.gate_up_proj.weight": ("gate_up", "hidden"), "mlp.down_proj.weight": ("hidden", "ffn")},
    ),
    "olmo": Template(ATTENTION, outside={EMBEDDING: ("vocab", "hidden")}, flags=BIASES),
    "olmo2": OLMO2,
    "olmo3": OLMO2,
    "mixtral": Template(
        {**ATTENTION, **NORMS},
        sparse={
            "block_sparse_moe.gate.weight": ("experts", "hidden"),
            "block_sparse_moe.experts.{expert}.w1.weight": ("expert_ffn", "hidden"),
            "block_sparse_moe.experts.{expert}.w2.weight": ("hidden", "expert_ffn"),
            "block_sparse_moe.experts.{expert}.w3.weight": ("expert_ffn", "hidden"),
        },
        defaults={"num_key_value_heads": 8, "num_local_experts": 8},
        expert_ffn="intermediate_size",
    ),
    "qwen2_moe": Template(
        {**ATTENTION, **NORMS},
        sparse={**ROUTER, **EXPERT, **SHARED_EXPERT},
        flags={"qkv_bias": QKV_BIAS},
        defaults={
            "num_key_value_heads": 16,
            "num_experts": 60,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
            "qkv_bias": True,
        },
    ),
    "qwen3_moe": Template(
        {**ATTENTION, **HEAD_NORMS, **NORMS},
        sparse={**ROUTER, **EXPERT},
        flags=BIASES,
        defaults={"num_key_value_heads": 4, "num_experts": 128, "moe_intermediate_size": 768},
    ),
    "olmoe": Template(
        {**ATTENTION, **WIDE_NORMS, **NORMS},
        sparse={**ROUTER, **EXPERT},
        flags=BIASES,
        defaults={"num_experts": 64},
        expert_ffn="intermediate_size",
    ),
}


def tied_by(config: Mapping[str, Any]) -> bool:
    """Whether `config` says that the output layer is the embedding; without a word, what its architecture means."""
    template = TEMPLATES.get(str(config.get("model_type")))
    default = template.defaults.get("tie_word_embeddings", False) if template else False
    return bool(config.get("tie_word_embeddings", default))


def fill(template: Template, config: Mapping[str, Any]) -> dict[str, Shape]:
    """Every tensor that a model of this config has, the output layer included where it is not tied.

    Raises:
        KeyError: the config lacks a field, which is named.
    """
    sizes = measure(template, config)
    shapes = dict(_sized(template.outside, sizes))
    if not tied_by(config):
        shapes[LM_HEAD] = (sizes["vocab"], sizes["hidden"])
    for number in range(int(config["num_hidden_layers"])):
        names = layer_names(template, config, number)
        shapes.update((f"model.layers.{number}.{name}", shape) for name, shape in _sized(names, sizes))
    return shapes


def layer_names(template: Template, config: Mapping[str, Any], number: int) -> Names:
    names = dict(template.layer)
    for flag, more in template.flags.items():
        if config.get(flag, template.defaults.get(flag, False)):
            names.update(more)
    return {**names, **(template.sparse if is_sparse(template, config, number) else template.dense)}


def is_sparse(template: Template, config: Mapping[str, Any], number: int) -> bool:
    """Whether a layer has experts (the rule of Qwen's MoE models; the others say nothing and have them everywhere)."""
    if not template.sparse or number in (config.get("mlp_only_layers") or ()):
        return False
    return (number + 1) % int(config.get("decoder_sparse_step") or 1) == 0


def measure(template: Template, config: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that shapes are made of.

    Raises:
        KeyError: the config lacks a field, which is named.
    """
    hidden, heads, ffn = (int(config[key]) for key in ("hidden_size", "num_attention_heads", "intermediate_size"))

    def take(*keys: str) -> int | None:
        found = [config[key] for key in keys if config.get(key) is not None]
        left_out = [template.defaults.get(key) for key in keys if key not in config]
        value = next(iter(found), next(filter(None, left_out), None))
        return None if value is None else int(value)

    kv_heads, head = take("num_key_value_heads") or heads, take("head_dim") or hidden // heads
    return {
        "one": 1,
        "vocab": int(config["vocab_size"]),
        "hidden": hidden,
        "ffn": ffn,
        "gate_up": 2 * ffn,
        "head": head,
        "q": heads * head,
        "kv": kv_heads * head,
        "qkv": (heads + 2 * kv_heads) * head,
        "experts": take("num_experts", "num_local_experts") or 0,
        "expert_ffn": take(template.expert_ffn) or 0,
        "shared_ffn": take("shared_expert_intermediate_size") or 0,
    }


def _sized(names: Names, sizes: Mapping[str, int]) -> Iterator[tuple[str, Shape]]:
    for name, shape in names.items():
        for expert in range(sizes["experts"]) if "{expert}" in name else [0]:
            yield name.replace("{expert}", str(expert)), tuple(sizes[size] for size in shape)
