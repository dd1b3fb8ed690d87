"""The small files: where they come from, what they say, and that they are the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.checkpoints import model_files, source_model
from holdfast.core.errors import UserError


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_overrides_go_into_sections_and_the_machines_own_goes(tmp_path: Path) -> None:
    before = {
        "model_type": "llama",
        "_name_or_path": str(tmp_path),
        "rope_scaling": {"type": "yarn", "factor": 2.0},
        "auto_map": {"AutoModel": "code.Model", "AutoConfig": "somebody/model--code.Config"},
    }
    put(tmp_path / "config.json", before)
    config = model_files.make_config(tmp_path, {"rope_scaling": {"factor": 4.0}, "max_position_embeddings": 9})
    assert config == {
        "model_type": "llama",
        "rope_scaling": {"type": "yarn", "factor": 4.0},
        "max_position_embeddings": 9,
        "auto_map": {"AutoConfig": "somebody/model--code.Config"},
    }
    assert model_files.write_json(config) == model_files.write_json(dict(reversed(config.items())))


NESTED = {"text_config": {"dtype": "float32"}, "other": {"dtype": 1}}
NESTED_AFTER = {"text_config": {"dtype": "bfloat16"}, "other": {"dtype": 1}, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("before", "after"),
    [({"torch_dtype": "float32"}, {"torch_dtype": "bfloat16"}), ({}, {"dtype": "bfloat16"}), (NESTED, NESTED_AFTER)],
)
def test_the_dtype_is_said_in_the_words_of_the_config(before: dict[str, Any], after: dict[str, Any]) -> None:
    sizes = [("F32", 10), ("BF16", 8), ("BF16", 8), ("I64", 100)]
    assert model_files.set_dtype(before, sizes) == after


def test_a_missing_generation_config_is_made_of_the_special_tokens(tmp_path: Path) -> None:
    config = {"eos_token_id": [1, 2], "bos_token_id": None, "pad_token_id": 0, "vocab_size": 5}
    expected = {"_from_model_config": True, "eos_token_id": [1, 2], "pad_token_id": 0}
    assert model_files.make_generation_config([tmp_path], config) == expected
    put(tmp_path / "generation_config.json", {"temperature": 0.6})
    assert model_files.make_generation_config([tmp_path / "no", tmp_path], config) == {"temperature": 0.6}


def test_the_first_place_with_a_tokenizer_gives_all_of_it_and_never_code(tmp_path: Path) -> None:
    saved, source = tmp_path / "tokenizer", tmp_path / "source"
    for name in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja", "tokenization_x.py"):
        put(saved / name, {})
    put(saved / "additional_chat_templates" / "tool.jinja", "x")
    for name in ("tokenizer_config.json", "vocab.json", "merges.txt"):
        put(source / name, {})
    found = model_files.find_tokenizer([tmp_path / "nowhere", saved, source])
    assert sorted(found) == [
        "additional_chat_templates/tool.jinja", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    assert [path.name for path in model_files.find_code([saved])] == ["tokenization_x.py"]


def test_a_run_config_says_model_tokenizer_and_overrides_in_both_spellings(tmp_path: Path) -> None:
    template = put(tmp_path / "chat.jinja", "{{ messages }}")
    text = f"""
policy:
  model_name: org/model
  hf_overrides: {{rope_scaling: {{factor: 2, type: yarn}}}}
  hf_config_overrides: {{rope_scaling: {{factor: 4}}}}
  tokenizer: {{name: org/tokenizer, chat_template: {template}}}
"""
    run = source_model.read_run_config(put(tmp_path / "config.yaml", text))
    assert (run.model, run.tokenizer, run.chat_template) == ("org/model", "org/tokenizer", "{{ messages }}")
    assert run.overrides == {"rope_scaling": {"factor": 4, "type": "yarn"}}


@pytest.mark.parametrize("text", ["policy: {}", "policy: 3", "model: x", "policy: {model_name: 3}", ""])
def test_a_config_without_a_model_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no policy\.model_name"):
        source_model.read_run_config(put(tmp_path / "config.yaml", text))


def test_hub_names_are_looked_up_in_the_cache_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--org--model"
    put(home / "refs" / "main", commit)
    put(home / "snapshots" / commit / "config.json", {})
    found = source_model.resolve("org/model")
    assert (found.directory, found.revision) == (home / "snapshots" / commit, commit)
    assert source_model.resolve("org/model", commit) == found
    with pytest.raises(UserError, match="neither a directory nor in the Hugging Face cache") as caught:
        source_model.resolve("org/other", "v2")
    assert caught.value.hint.endswith("`hf download org/other --revision v2`")
    with pytest.raises(UserError, match=r"there is no model directory \./models/x"):
        source_model.resolve("./models/x")


def test_the_cache_is_where_hugging_face_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the library's own rule, in a process for each environment."""
    import os
    import subprocess
    import sys

    program = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for environment in ({}, {"HF_HOME": "/a/b"}, {"HF_HUB_CACHE": "/c"}, {"XDG_CACHE_HOME": "/d"}):
        for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
        )
        assert str(source_model.cache_directory()) == done.stdout.strip()
