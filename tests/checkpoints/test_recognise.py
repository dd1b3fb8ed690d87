"""What a directory is taken for, and what is said of one that is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast.checkpoints.recognise import find_step, recognise
from holdfast.core.errors import UserError

CONFIG = '{"model_type": "llama"}'
ADAPTER = '{"peft_type": "LORA"}'


def lay(root: Path, *names: str, **contents: str) -> Path:
    """Files below `root`, with the content that is given for their name without its ending."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents.get(path.stem, "{}"))
    return root


def test_a_step_of_policy_v1_is_found_with_its_tokenizer_and_run_config(tmp_path: Path) -> None:
    weights = "policy/weights"
    step = lay(
        tmp_path / "step_7",
        "config.yaml",
        f"{weights}/.metadata",
        f"{weights}/__0_0.distcp",
        "policy/tokenizer/tokenizer_config.json",
    )
    for given in (step, step / "policy", step / weights, step / weights / ".metadata", step / weights / "__0_0.distcp"):
        found = recognise(given)
        assert (found.format, found.weights) == ("dcp", step / weights)
        assert found.sentence.endswith("NeMo RL, DTensor policy v1")
        assert (found.tokenizer, found.run_config) == (step / "policy" / "tokenizer", step / "config.yaml")
        assert find_step(found.weights) == step


def test_a_path_relative_to_where_one_stands_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = lay(tmp_path / "step_7", "config.yaml", "policy/weights/.metadata")
    monkeypatch.chdir(step / "policy")
    assert recognise(Path("weights")).run_config == step / "config.yaml"


def test_consolidated_safetensors_come_first_when_they_are_whole(tmp_path: Path) -> None:
    model = lay(tmp_path / "step_1", *(f"policy/weights/model/shard-0000{i}.safetensors" for i in (1, 2)))
    model = model / "policy/weights/model"
    assert recognise(tmp_path / "step_1").weights == model
    assert len(recognise(tmp_path / "step_1").files) == 2
    index = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    lay(model / "consolidated", "one.safetensors", "config.json", "model.safetensors.index.json").joinpath(
        "model.safetensors.index.json"
    ).write_text(index)
    assert recognise(tmp_path / "step_1").weights == model
    lay(model / "consolidated", "two.safetensors")
    found = recognise(tmp_path / "step_1")
    assert (found.weights, found.model) == (model / "consolidated", model / "consolidated")


def test_sharded_checkpoints_of_the_hugging_face_trainer_are_found(tmp_path: Path) -> None:
    step = lay(
        tmp_path / "checkpoint-5", "trainer_state.json", "pytorch_model_fsdp_0/.metadata", "optimizer_0/.metadata"
    )
    assert recognise(step).weights == step / "pytorch_model_fsdp_0"
    assert find_step(recognise(step).weights) == step


def test_an_adapter_is_found_where_policy_v2_saves_it(tmp_path: Path) -> None:
    lay(tmp_path, "policy/weights/model/adapter_config.json", "policy/weights/model/adapter_model.safetensors")
    found = recognise(tmp_path)
    assert (found.format, found.weights) == ("adapter", tmp_path / "policy/weights/model")


def test_an_adapter_without_weights_says_so(tmp_path: Path) -> None:
    lay(tmp_path, "adapter_config.json", "adapter_model.bin")
    with pytest.raises(
        UserError, match=r"no adapter_model\.safetensors; there are adapter_config\.json, adapter_model"
    ):
        recognise(tmp_path)


def test_an_unfinished_checkpoint_is_not_taken_for_one(tmp_path: Path) -> None:
    lay(tmp_path, "__0_0.distcp", "__1_0.distcp")
    with pytest.raises(UserError, match=r"2 \.distcp files but no \.metadata, which is written last"):
        recognise(tmp_path)


def test_megatron_names_the_converter_with_its_flags(tmp_path: Path) -> None:
    lay(tmp_path / "step_3", "config.yaml", "policy/weights/iter_0000003/common.pt")
    with pytest.raises(UserError, match="is a Megatron checkpoint") as caught:
        recognise(tmp_path / "step_3")
    assert "convert_megatron_to_hf.py" in caught.value.hint
    assert f"--megatron-ckpt-path {tmp_path}/step_3/policy/weights/iter_0000003" in caught.value.hint
    assert f"--config {tmp_path}/step_3/config.yaml" in caught.value.hint


def test_rank_files_of_verl_must_be_there_for_every_rank(tmp_path: Path) -> None:
    names = [f"actor/model_world_size_3_rank_{rank}.pt" for rank in (0, 2)]
    lay(tmp_path, *names)
    with pytest.raises(UserError, match="lacks the files of 1 of 3 ranks, the first is rank 1"):
        recognise(tmp_path)
    lay(tmp_path, "actor/model_world_size_3_rank_1.pt", "actor/optim_world_size_3_rank_0.pt")
    assert [file.name[-4] for file in recognise(tmp_path).files] == ["0", "1", "2"]
    lay(tmp_path, "actor/model_world_size_2_rank_0.pt")
    with pytest.raises(UserError, match="worlds of 2 and 3 ranks"):
        recognise(tmp_path)


def test_our_own_checkpoints_and_model_directories(tmp_path: Path) -> None:
    lay(tmp_path / "step_2", ".holdfast.json", "training_info.json", "model/config.json", "model/model.safetensors")
    assert recognise(tmp_path / "step_2").sentence == "the model of a checkpoint of Holdfast"
    assert recognise(tmp_path / "step_2" / "model").weights == tmp_path / "step_2" / "model"
    lay(tmp_path / "plain", "config.json", "model.safetensors")
    assert recognise(tmp_path / "plain").sentence == "a Hugging Face model directory"


def test_what_nobody_knows_is_listed_with_what_was_looked_for(tmp_path: Path) -> None:
    lay(tmp_path, "weights.h5", "notes.txt")
    with pytest.raises(UserError, match=r"no \.metadata, adapter_config\.json.*there are notes\.txt, weights\.h5"):
        recognise(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint at"):
        recognise(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it is empty"):
        recognise(tmp_path / "empty")
