"""The shipped tables against what transformers writes for the same configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints.models import make_model, read_config, read_shapes, save

from holdfast.checkpoints.architectures import meta_model
from holdfast.checkpoints.architectures.required import require
from holdfast.checkpoints.architectures.templates import LM_HEAD, TEMPLATES, fill

pytestmark = pytest.mark.train
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in TEMPLATES),
    *((kind, {"head_dim": 10}) for kind in TEMPLATES if kind not in ("olmo", "olmo2", "olmo3", "olmoe")),
    *((kind, {"tie_word_embeddings": kind not in ("gemma", "gemma2", "gemma3_text", "smollm3")}) for kind in TEMPLATES),
    *((kind, {"attention_bias": True}) for kind, template in TEMPLATES.items() if "attention_bias" in template.flags),
    *((kind, {"mlp_bias": True}) for kind, template in TEMPLATES.items() if "mlp_bias" in template.flags),
    ("qwen2_moe", {"qkv_bias": False}),
    ("qwen2_moe", {"decoder_sparse_step": 2}),
    ("qwen3_moe", {"mlp_only_layers": [0]}),
]


@pytest.mark.parametrize(("kind", "fields"), VARIANTS, ids=lambda value: str(value))
def test_a_template_names_exactly_what_transformers_writes(kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    directory = save(make_model(kind, **fields), tmp_path)
    assert fill(TEMPLATES[kind], read_config(directory)) == read_shapes(directory)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_fields_that_a_config_leaves_out_mean_what_transformers_takes_them_for(kind: str) -> None:
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind).to_dict()
    config["num_hidden_layers"] = 1
    bare = {"model_type": kind, **{name: config[name] for name in needed}}
    assert fill(TEMPLATES[kind], bare) == fill(TEMPLATES[kind], config)


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral", "glm4", "gpt2"])
def test_an_architecture_without_storage_has_the_names_of_its_files(kind: str, tmp_path: Path) -> None:
    fields = {} if kind != "gpt2" else {"n_embd": 32, "n_layer": 1, "n_head": 2}
    directory = save(make_model(kind, **fields), tmp_path)
    answer = meta_model.describe(str(directory))
    assert {name: tuple(shape) for name, shape in answer["shapes"].items()} == read_shapes(directory)


def test_a_child_process_describes_what_no_template_knows() -> None:
    config = make_model("glm4").config.to_dict()
    wanted = require({**config, "architectures": ["Glm4ForCausalLM"], "dtype": "float32"})
    assert wanted.shapes["model.layers.1.mlp.gate_up_proj.weight"] == (48, 32)
    assert wanted.shapes[LM_HEAD] == (48, 32)
