"""Tiny models of real architectures, as the tests of checkpoints save and load them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SIZES = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 20,
}


def make_model(kind: str, seed: int = 0, **fields: Any) -> PreTrainedModel:
    """A causal language model with random weights of its `model_type`; norms and biases are random too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    more = EXPERTS if "moe" in kind or kind in ("mixtral", "olmoe") else {}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **more, **fields}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def save(model: PreTrainedModel, directory: Path) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(directory)
    return directory


def read_config(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return content


def read_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """What `save_pretrained` wrote, by the library that others read it with."""
    from safetensors import safe_open

    shapes = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            shapes.update({name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()})  # noqa: SIM118
    return shapes


def logits(model: PreTrainedModel) -> torch.Tensor:
    import torch

    with torch.no_grad():
        tokens = torch.arange(3, 19).reshape(2, 8)
        result: torch.Tensor = model(tokens).logits
    return result


def load(directory: Path, **options: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, output_loading_info=True, **options
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"], report
    return model.eval()
