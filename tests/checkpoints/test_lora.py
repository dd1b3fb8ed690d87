"""Merged adapters against PEFT's own merge."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.checkpoints.models import load, logits, make_model, read_shapes, save
from tests.checkpoints.nemo_rl import save_dcp

from holdfast.checkpoints import convert
from holdfast.checkpoints.plan import plan
from holdfast.checkpoints.selection import Options
from holdfast.core.errors import UserError

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.train


def make_adapter(base: Path, **fields: Any) -> Any:
    """A PEFT model over `base`, its factors random."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    fields = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **fields}
    model = get_peft_model(load(base), LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=str(base), **fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(0, 0.2)
    return model


def save_adapter(model: Any, directory: Path, base: Path) -> Path:
    model.save_pretrained(directory)
    config = json.loads((directory / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def bound_errors(model: Any) -> dict[str, torch.Tensor]:
    """Name of a changed weight to how far two float32 sums of its terms may be apart, by the order of summation alone:
    2 (rank + 2) units of rounding of the sum of the terms' magnitudes (Higham, Accuracy and Stability, section 3.1).
    """
    import torch

    bounds = {}
    for name, module in model.get_base_model().named_modules():
        if not getattr(module, "lora_A", None) and not getattr(module, "lora_embedding_A", None):
            continue
        embedding = not module.lora_A
        a, b = (module.lora_embedding_A, module.lora_embedding_B) if embedding else (module.lora_A, module.lora_B)
        left, right = ((each["default"] if embedding else each["default"].weight).double().abs() for each in (b, a))
        change = left @ right * module.scaling["default"]
        if change.shape != module.weight.shape:
            change = change.T
        bounds[f"{name}.weight"] = 2 * (right.shape[0] + 2) * 2.0**-24 * (module.weight.double().abs() + change)
    assert bounds
    return {name: torch.as_tensor(bound.detach()) for name, bound in bounds.items()}


def assert_merged(found: Path, model: Any, dtype: str = "float32") -> None:
    """As PEFT merges, but for the order in which float32 numbers are summed, and one rounding of a smaller dtype."""
    import torch
    from safetensors.torch import load_file

    bounds = bound_errors(model)
    expected = model.merge_and_unload()
    tensors, state = load_file(found / "model.safetensors"), expected.state_dict()
    assert tensors.keys() | set(expected.all_tied_weights_keys) == state.keys()
    for name, tensor in tensors.items():
        wanted = state[name]
        assert tensor.dtype == wanted.dtype
        if name not in bounds:
            assert torch.equal(tensor, wanted), name
            continue
        place = torch.nextafter(wanted.abs(), torch.full_like(wanted, math.inf)).double() - wanted.abs().double()
        allowed = bounds[name] + (0 if dtype == "float32" else place)
        assert ((tensor.double() - wanted.double()).abs() <= allowed).all(), name
        assert (tensor == wanted).float().mean() > 0.6, name


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        ("float32", {}),
        ("float32", {"use_rslora": True}),
        ("float32", {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 20}}),
        ("float32", {"modules_to_save": ["lm_head"]}),
        ("float32", {"target_modules": ["embed_tokens", "v_proj"]}),
        ("bfloat16", {}),
        ("float16", {"target_modules": "all-linear"}),
    ],
)
def test_a_merged_adapter_is_what_peft_makes_of_it(dtype: str, fields: dict[str, Any], tmp_path: Path) -> None:
    base = save(make_model("qwen3", dtype=dtype).to(_dtype(dtype)), tmp_path / "base")
    model = make_adapter(base, **fields)
    adapter = save_adapter(model, tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    summary = convert.run(plan(adapter), tmp_path / "out")
    assert_merged(tmp_path / "out", model, dtype)
    assert summary.sentence == "a PEFT adapter"
    assert read_shapes(tmp_path / "out") == read_shapes(base)


def test_layers_that_store_weights_transposed_are_merged_transposed(tmp_path: Path) -> None:
    base = save(make_model("gpt2", n_embd=32, n_layer=2, n_head=2), tmp_path / "base")
    model = make_adapter(base, target_modules=["c_attn"], fan_in_fan_out=True)
    adapter = save_adapter(model, tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    convert.run(plan(adapter), tmp_path / "out")
    assert_merged(tmp_path / "out", model)


def test_the_merged_bytes_do_not_depend_on_how_many_work(tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    adapter = save_adapter(make_adapter(base), tmp_path / "adapter", base)
    made = []
    for threads in (1, 4):
        out = tmp_path / str(threads)
        out.mkdir()
        convert.run(plan(adapter), out, threads=threads)
        made.append((out / "model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_an_adapter_in_a_checkpoint_of_memory_is_merged_into_the_model_beside_it(tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    model = make_adapter(base, modules_to_save=["lm_head"])
    saved = save_dcp({"model": model.state_dict()}, tmp_path / "dcp")
    save_adapter(model, tmp_path / "adapter", base)
    (tmp_path / "adapter" / "adapter_config.json").rename(tmp_path / "adapter_config.json")
    (tmp_path / "out").mkdir()
    convert.run(plan(saved), tmp_path / "out")
    assert_merged(tmp_path / "out", model)


def test_an_exported_adapter_is_one_that_peft_loads(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    base = save(make_model("qwen3"), tmp_path / "base")
    model = make_adapter(base)
    state = {name: each for name, each in model.state_dict().items() if "lora_" in name}
    saved = save_dcp({"model": state}, tmp_path / "dcp")
    config = save_adapter(model, tmp_path / "adapter", base) / "adapter_config.json"
    config.rename(tmp_path / "adapter_config.json")
    (tmp_path / "out").mkdir()
    convert.run(plan(saved, Options(adapter="export")), tmp_path / "out")
    assert read_shapes(tmp_path / "out") == read_shapes(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(load(base), tmp_path / "out")
    assert torch.equal(logits(loaded.eval()), logits(model.eval()))
    assert loaded.peft_config["default"].lora_alpha / loaded.peft_config["default"].r == 6 / 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters is"),
        ({"something_new": 1}, "something_new is 1"),
        ({"r": None}, "does not say the scale of model"),
        ({"lora_alpha": "much"}, "does not say the scale of model"),
        ({"alpha_pattern": {"[": 3}}, "does not say the scale of model"),
        ({"rank_pattern": {"q_proj": 0}}, "does not say the scale of model"),
        ({"r": 8}, "have rank 4, but the config says 8"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_its_name(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    adapter = save_adapter(make_adapter(base), tmp_path / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(UserError, match=message):
        plan(adapter)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    adapter = save_adapter(make_adapter(base), tmp_path / "adapter", base)
    other = save(make_model("qwen3", intermediate_size=40), tmp_path / "other")
    with pytest.raises(UserError, match=r"\[32, 24\] for .*down_proj\.weight, which is \[32, 40\] in the base model"):
        plan(adapter, Options(model=str(other)))


def test_an_output_layer_that_was_trained_apart_is_not_tied_again(tmp_path: Path) -> None:
    base = save(make_model("qwen3", tie_word_embeddings=True), tmp_path / "base")
    untied = save(make_model("qwen3"), tmp_path / "untied")
    model = make_adapter(untied, modules_to_save=["lm_head"])
    adapter = save_adapter(model, tmp_path / "adapter", base)
    with pytest.raises(UserError, match=r"changes lm_head\.weight, which the base model's config ties"):
        plan(adapter)


def test_the_sum_over_the_rank_is_in_order_and_in_float32() -> None:
    import numpy

    from holdfast.checkpoints.lora import multiply

    left = numpy.array([[1e8, 1.0, -1e8]], numpy.float32)
    right = numpy.array([[1.0], [1.0], [1.0]], numpy.float32)
    assert multiply(left, right, math.pi)[0, 0] == 0.0
    assert multiply(left[:, [0, 2, 1]], right, 0.5)[0, 0] == 0.5


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
