"""A converted model is the checkpoint's, whole, and the same bytes whoever converts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import make_output, write_tiny

from holdfast.core.artifact import digest_of
from holdfast.core.errors import UserError
from holdfast.stages.convert import Convert

pytestmark = pytest.mark.train
KIND = Convert()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model"))


def convert(checkpoint: Path, directory: Path, dtype: str = "auto") -> Path:
    out = make_output(directory)
    KIND.run(KIND.parse({"dtype": dtype}), {"checkpoint": checkpoint}, out)
    return out.path


def shard(model: Path, directory: Path) -> Path:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(model).save_pretrained(directory, max_shard_size="20KB")
    return directory


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_the_weights_are_the_same_and_load(model: Path, tmp_path: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = AutoModelForCausalLM.from_pretrained(convert(model, tmp_path, dtype))
    wanted = AutoModelForCausalLM.from_pretrained(model)
    assert found.dtype == (torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    pairs = zip(found.state_dict().values(), wanted.to(found.dtype).state_dict().values(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    assert found.generation_config.do_sample is True
    assert AutoTokenizer.from_pretrained(tmp_path / "home")("1+2=")["input_ids"] == [4, 13, 5, 14]


def test_our_checkpoint_and_a_plain_directory_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "step_3").mkdir()
    (tmp_path / "step_3" / "model").symlink_to(model)
    one, other = convert(tmp_path / "step_3", tmp_path / "one"), convert(model, tmp_path / "other")
    names = sorted(path.name for path in one.iterdir() if path.name != "metrics.jsonl")
    assert names == sorted(path.name for path in model.iterdir())
    assert all(digest_of(one / name) == digest_of(other / name) for name in names)


def test_shards_are_read_as_one_model(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    home = convert(shard(model, tmp_path / "sharded"), tmp_path, "float16")
    assert AutoModelForCausalLM.from_pretrained(home).num_parameters() > 0


def test_a_missing_shard_is_an_error_not_a_random_model(model: Path, tmp_path: Path) -> None:
    sharded = shard(model, tmp_path / "sharded")
    sorted(sharded.glob("*.safetensors"))[0].unlink()
    with pytest.raises(UserError, match="not there"):
        convert(sharded, tmp_path)


def test_a_tensor_that_the_index_names_and_no_file_has_is_an_error(model: Path, tmp_path: Path) -> None:
    sharded = shard(model, tmp_path / "sharded")
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.lost.weight"] = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"model\.lost\.weight"):
        convert(sharded, tmp_path)


def test_an_index_cannot_name_files_elsewhere(model: Path, tmp_path: Path) -> None:
    sharded = shard(model, tmp_path / "sharded")
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": f"../../{model.name}/model.safetensors"}}))
    with pytest.raises(UserError, match="names a file elsewhere"):
        convert(sharded, tmp_path)


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing that is known as a checkpoint"):
        convert(tmp_path, tmp_path)
