"""Real models, saved as trainers save them, converted, loaded by transformers: not a bit of a logit may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints.models import load, logits, make_model, read_config, read_shapes, save
from tests.checkpoints.nemo_rl import save_dcp, save_v1, save_v2, write_step

from holdfast.checkpoints import contents, convert, snapshots
from holdfast.checkpoints.plan import plan
from holdfast.checkpoints.recognise import recognise
from holdfast.checkpoints.selection import Options
from holdfast.core.errors import Stopped, UserError

pytestmark = pytest.mark.train


def convert_to(directory: Path, checkpoint: Path, **options: Any) -> convert.Summary:
    directory.mkdir()
    return convert.run(plan(checkpoint, Options(**options)), directory)


def payload(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("qwen3", {}),
        ("llama", {"attention_bias": True}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("gemma2", {}),
        ("qwen3_moe", {}),
        ("qwen2_moe", {}),
        ("mixtral", {}),
        ("glm4", {}),
    ],
)
def test_a_model_saved_by_nemo_rl_is_the_same_model_after_conversion(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    import torch

    trained, base = make_model(kind, seed=1, **fields), save(make_model(kind, seed=2, **fields), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v1(trained.state_dict(), step)
    summary = convert_to(tmp_path / "out", step)
    assert torch.equal(logits(load(tmp_path / "out")), logits(trained))
    assert not torch.equal(logits(load(base)), logits(trained))
    assert read_shapes(tmp_path / "out") == read_shapes(base)
    assert summary.sentence == "a distributed checkpoint (DCP) of NeMo RL, DTensor policy v1"


@pytest.mark.parametrize("given", ["", "policy", "policy/weights", "policy/weights/model"])
def test_any_directory_of_a_step_finds_the_weights_of_policy_v2(given: str, tmp_path: Path) -> None:
    import torch

    trained = make_model("qwen3", seed=1)
    base = save(make_model("qwen3"), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v2(trained.state_dict(), step)
    convert_to(tmp_path / "out", step / given)
    assert torch.equal(logits(load(tmp_path / "out")), logits(trained))


def test_two_conversions_give_the_same_bytes(tmp_path: Path) -> None:
    base = save(make_model("llama"), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("llama", seed=1).state_dict(), step)
    convert_to(tmp_path / "one", step)
    convert_to(tmp_path / "other", step)
    assert payload(tmp_path / "one") == payload(tmp_path / "other")


def test_weights_from_a_template_are_those_that_the_source_would_have_asked_for(tmp_path: Path) -> None:
    """A source of which only the config is in the cache."""
    base = save(make_model("qwen3"), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("qwen3", seed=1).state_dict(), step)
    convert_to(tmp_path / "whole", step)
    (base / "model.safetensors").unlink()
    summary = convert_to(tmp_path / "bare", step)
    assert summary.said_by == "the template of qwen3"
    assert payload(tmp_path / "whole") == payload(tmp_path / "bare")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_cast_is_that_of_torch_and_the_config_says_it(dtype: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    trained = make_model("qwen3", seed=1)
    step = write_step(tmp_path / "run", 4, save(make_model("qwen3"), tmp_path / "base"))
    save_v1(trained.state_dict(), step)
    convert_to(tmp_path / "out", step, dtype=dtype)
    expected = {name: tensor.to(getattr(torch, dtype)) for name, tensor in trained.state_dict().items()}
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )
    assert read_config(tmp_path / "out")["dtype"] == dtype


def test_full_precision_weights_are_not_announced_as_half(tmp_path: Path) -> None:
    """Loaders take the dtype from the config, and would round what training saved in float32."""
    base = save(make_model("qwen3", dtype="bfloat16"), tmp_path / "base")
    assert read_config(base)["dtype"] == "bfloat16"
    step = write_step(tmp_path / "run", 4, base)
    save_v1({name: each.float() for name, each in make_model("qwen3", seed=1).state_dict().items()}, step)
    convert_to(tmp_path / "out", step)
    assert read_config(tmp_path / "out")["dtype"] == "float32"


def test_the_overrides_of_the_run_reach_the_config(tmp_path: Path) -> None:
    base = save(make_model("llama"), tmp_path / "base")
    rope = {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}
    step = write_step(tmp_path / "run", 4, base, hf_config_overrides={**rope, "max_position_embeddings": 256})
    save_v1(make_model("llama", seed=1).state_dict(), step)
    convert_to(tmp_path / "out", step, overrides={"max_position_embeddings": 512})
    config = read_config(tmp_path / "out")
    assert config["rope_parameters"] == {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    assert config["max_position_embeddings"] == 512


def test_another_architectures_config_is_named_with_both_shapes(tmp_path: Path) -> None:
    wrong = save(make_model("llama", intermediate_size=40), tmp_path / "wrong")
    step = write_step(tmp_path / "run", 4, wrong)
    save_v1(make_model("llama").state_dict(), step)
    with pytest.raises(UserError, match=r"down_proj\.weight is 32x24, but the architecture's is 32x40.*6 of 21 shapes"):
        plan(step)


def test_missing_and_surplus_tensors_are_named(tmp_path: Path) -> None:
    state = make_model("qwen3").state_dict()
    del state["model.layers.1.mlp.up_proj.weight"]
    state["model.layers.1.mlp.extra.weight"] = state["model.norm.weight"].clone()
    step = write_step(tmp_path / "run", 4, save(make_model("qwen3"), tmp_path / "base"))
    save_v1(state, step)
    with pytest.raises(
        UserError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight, and has besides .*extra\.weight"
    ):
        plan(step)


def test_optimizer_and_trainer_state_beside_the_model_is_left_out_and_said(tmp_path: Path) -> None:
    import torch

    trained = make_model("qwen3", seed=1)
    state = {"optimizer": {"state": {"x": torch.ones(3)}, "lr": 0.1}, "rng_state": torch.zeros(4), "step": 3}
    base = save(make_model("qwen3"), tmp_path / "base")
    save_dcp({"app": {"model": trained.state_dict(), **state}}, tmp_path / "dcp")
    summary = convert_to(tmp_path / "out", tmp_path / "dcp", model=str(base))
    assert torch.equal(logits(load(tmp_path / "out")), logits(trained))
    assert summary.left_out["app.optimizer.state.x"] == "optimizer or trainer state"
    assert summary.left_out["app.step"] == "not a tensor"


def test_a_tied_output_layer_that_differs_is_never_dropped(tmp_path: Path) -> None:
    tied = make_model("qwen3", tie_word_embeddings=True)
    state = {name: tensor.clone() for name, tensor in tied.state_dict().items()}
    step = write_step(tmp_path / "run", 4, save(tied, tmp_path / "base"))
    save_v1(state, step)
    left_out = convert_to(tmp_path / "out", step).left_out
    assert left_out["model.lm_head.weight"] == "equal to model.embed_tokens.weight, and the config ties them"
    assert "lm_head.weight" not in read_shapes(tmp_path / "out")
    state["lm_head.weight"][5, 5] += 1
    other = write_step(tmp_path / "other", 4, tmp_path / "base")
    save_v1(state, other)
    with pytest.raises(UserError, match=r"ties lm_head\.weight to model\.embed_tokens\.weight"):
        plan(other)
    convert_to(tmp_path / "untied", other, overrides={"tie_word_embeddings": False})
    assert "lm_head.weight" in read_shapes(tmp_path / "untied")


def test_equal_but_untied_weights_are_both_kept(tmp_path: Path) -> None:
    model = make_model("qwen3", tie_word_embeddings=False)
    state = model.state_dict()
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    step = write_step(tmp_path / "run", 4, save(model, tmp_path / "base"))
    save_v1(state, step)
    convert_to(tmp_path / "out", step)
    assert "lm_head.weight" in read_shapes(tmp_path / "out")


def test_large_models_are_sharded_and_load(tmp_path: Path) -> None:
    import torch

    trained = make_model("llama", seed=1)
    step = write_step(tmp_path / "run", 4, save(make_model("llama"), tmp_path / "base"))
    save_v1(trained.state_dict(), step)
    (tmp_path / "out").mkdir()
    convert.run(plan(step), tmp_path / "out", shard_bytes=20_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert torch.equal(logits(load(tmp_path / "out")), logits(trained))


def test_a_checkpoint_that_is_rewritten_meanwhile_fails_the_conversion(tmp_path: Path) -> None:
    step = write_step(tmp_path / "run", 4, save(make_model("llama"), tmp_path / "base"))
    weights = save_v1(make_model("llama", seed=1).state_dict(), step)
    planned = plan(step)
    save_dcp({"model": make_model("llama", seed=2).state_dict()}, weights)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"\.distcp changed while it was read|\.metadata changed while it was read"):
        convert.run(planned, tmp_path / "out")


def test_a_checkpoint_that_is_rewritten_while_its_conversion_is_planned_is_noticed(tmp_path: Path) -> None:
    step = write_step(tmp_path / "run", 4, save(make_model("llama"), tmp_path / "base"))
    weights = save_v1(make_model("llama", seed=1).state_dict(), step)
    content = contents.read(recognise(step))
    snapshots.check(content.described)
    save_dcp({"model": make_model("llama", seed=2).state_dict()}, weights)
    with pytest.raises(UserError, match=r"\.metadata changed while it was read"):
        snapshots.check(content.described)


def test_a_config_that_vanishes_meanwhile_is_noticed(tmp_path: Path) -> None:
    base = save(make_model("llama"), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("llama", seed=1).state_dict(), step)
    planned = plan(step)
    (base / "config.json").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"base/config\.json vanished while it was read"):
        convert.run(planned, tmp_path / "out")


def test_a_conversion_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    step = write_step(tmp_path / "run", 4, save(make_model("llama"), tmp_path / "base"))
    save_v1(make_model("llama", seed=1).state_dict(), step)
    (tmp_path / "out").mkdir()
    seen: list[tuple[int, int]] = []
    convert.run(plan(step), tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    total = sum(tensor.nbytes for tensor in plan(step).tensors.values())
    assert seen[-1] == (total, total)
    (tmp_path / "again").mkdir()
    with pytest.raises(Stopped):
        convert.run(_endless(plan(step)), tmp_path / "again", stop=lambda: True)


def _endless(planned: Any) -> Any:
    """The plan with a tensor that takes its time, so that a stop comes before the end."""
    import time
    from dataclasses import replace

    from holdfast.checkpoints.tensors import Computed

    def blocks() -> Any:
        time.sleep(1)
        yield bytes(4)

    slow = {f"slow{i}": Computed(f"slow{i}", "F32", (1,), blocks) for i in range(20)}
    return replace(planned, tensors={**planned.tensors, **slow})


def test_a_model_directory_is_a_checkpoint_too(tmp_path: Path) -> None:
    import torch

    model = make_model("qwen3")
    summary = convert_to(tmp_path / "out", save(model, tmp_path / "model"))
    assert summary.sentence == "a Hugging Face model directory"
    assert torch.equal(logits(load(tmp_path / "out")), logits(model))


def test_tokenizer_and_chat_template_come_from_beside_the_weights(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from holdfast.training.tiny_model import make_tokenizer

    base = save(make_model("qwen3"), tmp_path / "base")
    make_tokenizer().save_pretrained(base)
    (base / "modeling_own.py").write_text("raise SystemExit('never')")
    step = write_step(tmp_path / "run", 4, base, tokenizer={"name": "not/there"})
    save_v2(make_model("qwen3", seed=1).state_dict(), step)
    trained = make_tokenizer()
    trained.chat_template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    trained.save_pretrained(step / "policy" / "tokenizer")
    summary = convert_to(tmp_path / "out", step)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert loaded.apply_chat_template([{"role": "user", "content": "1+1"}], tokenize=False) == "<1+1>"
    assert loaded("1+1=")["input_ids"] == trained("1+1=")["input_ids"]
    assert summary.notes == ("programs of the source model are not carried over: modeling_own.py",)
    assert not list((tmp_path / "out").glob("*.py"))


def test_a_template_of_the_run_is_used_where_no_tokenizer_was_saved(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from holdfast.training.tiny_model import make_tokenizer

    base = save(make_model("qwen3"), tmp_path / "base")
    make_tokenizer().save_pretrained(base)
    template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    step = write_step(tmp_path / "run", 4, base, tokenizer={"name": str(base), "chat_template": template})
    save_v1(make_model("qwen3", seed=1).state_dict(), step)
    convert_to(tmp_path / "out", step)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert loaded.apply_chat_template([{"role": "user", "content": "1"}], tokenize=False) == "[1]"


def test_generation_settings_are_those_of_the_source(tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    (base / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [2, 3]}')
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("qwen3", seed=1).state_dict(), step)
    convert_to(tmp_path / "out", step)
    assert load(tmp_path / "out").generation_config.temperature == 0.6


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_torch_save_are_read_without_running_them(wrapped: bool, tmp_path: Path) -> None:
    import torch

    model = make_model("llama", seed=1)
    directory = save(make_model("llama"), tmp_path / "model")
    (directory / "model.safetensors").unlink()
    state = model.state_dict()
    torch.save({"model": state, "step": 3} if wrapped else state, directory / "pytorch_model.bin")
    convert_to(tmp_path / "out", directory)
    assert torch.equal(logits(load(tmp_path / "out")), logits(model))


def test_a_checkpoint_of_an_unknown_model_asks_for_one(tmp_path: Path) -> None:
    saved = save_dcp(dict(make_model("llama").state_dict()), tmp_path / "dcp")
    with pytest.raises(UserError, match="does not say of what model"):
        plan(saved)


def test_quantization_of_the_source_is_not_claimed_of_plain_weights(tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    config = read_config(base)
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("qwen3", seed=1).state_dict(), step)
    summary = convert_to(tmp_path / "out", step)
    assert "quantization_config" not in read_config(tmp_path / "out")
    assert "quantization_config is left out" in summary.notes[0]


def test_names_of_torchtitan_are_not_guessed_at(tmp_path: Path) -> None:
    import torch

    base = save(make_model("llama"), tmp_path / "base")
    state = {"tok_embeddings.weight": torch.zeros(48, 32), "layers.0.attention.wq.weight": torch.zeros(32, 32)}
    with pytest.raises(UserError, match="names of torchtitan's own models") as caught:
        plan(save_dcp(state, tmp_path / "dcp"), Options(model=str(base)))
    assert "convert_to_hf.py" in caught.value.hint


def test_a_conversion_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    import subprocess
    import sys

    step = write_step(tmp_path / "run", 4, save(make_model("qwen3_moe"), tmp_path / "base"))
    save_v1(make_model("qwen3_moe", seed=1).state_dict(), step)
    (tmp_path / "out").mkdir()
    program = (
        "import sys; from pathlib import Path; from holdfast.checkpoints import convert, describe, plan\n"
        "step, out = map(Path, sys.argv[1:])\n"
        "describe.describe(step); convert.run(plan.plan(step), out)\n"
        "heavy = {'torch', 'transformers', 'safetensors', 'numpy', 'huggingface_hub'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, step, tmp_path / "out"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": "wide"}, "has sizes that are none"),
        ({"num_attention_heads": 0, "head_dim": None}, "has sizes that are none"),
        ({"vocab_size": None}, "has sizes that are none"),
        ({"num_hidden_layers": 3}, r"lacks model\.layers\.2\."),
        ({"model_type": "no-such-model"}, "no template for the architecture 'no-such-model'"),
    ],
)
def test_a_config_that_is_none_is_one_line(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    base = save(make_model("qwen3"), tmp_path / "base")
    step = write_step(tmp_path / "run", 4, base)
    save_v1(make_model("qwen3", seed=1).state_dict(), step)
    (base / "config.json").write_text(json.dumps({**read_config(base), **fields}))
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match=message) as caught:
        plan(step)
    assert "\n" not in str(caught.value) and caught.value.hint
