"""Where the document's launcher was wrong, and what holds here: each of these fails on what it did."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from tests.evaluations import ANSWER, DCP, OTHER, SHIPPED_FAKE, Desk, Materials
from tests.runs import wait_until

pytestmark = pytest.mark.train
STEP = "results/grpo/step_170"
LOCAL = ("--executor", "local")
OWN = "generation.model_name=model_path"


@pytest.fixture
def desk(tmp_path: Path, materials: Materials) -> Desk:
    return Desk(tmp_path, materials)


def convert(desk: Desk, *more: str) -> Path:
    return Path(desk.type(f"convert {STEP}", *LOCAL, *more).stdout.strip())


def says(desk: Desk, model: Path) -> str:
    """What a model answers to a sum, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    chat = [{"role": "user", "content": "1+1"}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        found = loaded.generate(**tokens, do_sample=False, max_new_tokens=16)[0, tokens["input_ids"].shape[1] :]
    return str(tokenizer.decode(found, skip_special_tokens=True))


def test_retrained_checkpoint_at_the_same_path_is_converted_anew(desk: Desk) -> None:
    """It was found by an MD5 of its path: the weights of the run before were evaluated."""
    first = convert(desk)
    desk.put_step(STEP, 4, "fsdp", OTHER)
    second = convert(desk)
    assert second != first
    assert says(desk, first) == f"\\boxed{{{ANSWER}}}" and says(desk, second) == f"\\boxed{{{OTHER}}}"


def test_same_checkpoint_elsewhere_is_the_same_conversion(desk: Desk) -> None:
    first = convert(desk)
    shutil.move(desk.directory / STEP, desk.directory / "moved_step_170")
    found = desk.planned("evaluate --dcp-ckpt-path moved_step_170", *LOCAL)
    assert [each["state"] for each in found if each["kind"] == "convert"] == ["complete"]
    assert desk.converted() == [first]


@pytest.mark.parametrize("changed", ["policy.hf_config_overrides.max_position_embeddings", "tokenizer"])
def test_other_config_or_tokenizer_is_another_conversion(changed: str, desk: Desk) -> None:
    first = convert(desk)
    if changed == "tokenizer":
        where = desk.directory / STEP / "policy" / "tokenizer" / "tokenizer_config.json"
        where.write_text(json.dumps({**json.loads(where.read_text()), "model_max_length": 99}))
    else:
        path = desk.directory / STEP / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["policy"]["hf_config_overrides"]["max_position_embeddings"] = 1024
        path.write_text(yaml.safe_dump(config))
    assert convert(desk) != first and len(desk.converted()) == 2


def test_half_a_conversion_is_none_though_its_config_is_there(desk: Desk) -> None:
    """`config.json` was the proof, and it was written before the weights could be trusted."""
    (planned, _) = desk.planned(f"evaluate {DCP}", *LOCAL)
    torn = desk.root / planned["home"]
    torn.mkdir(parents=True)
    (torn / "config.json").write_text("{}")
    for more in ("", "--skip-conversion", "--force-conversion"):
        told = desk.type(f"evaluate {DCP} {more}", *SHIPPED_FAKE, code=2).stderr
        assert torn.name in told and "hint: " in told
    assert [path.name for path in torn.iterdir()] == ["config.json"]


def test_failed_conversion_starts_no_evaluation(desk: Desk) -> None:
    """It printed an error, and the evaluation began."""
    shard = desk.directory / STEP / "policy" / "weights" / "__2_0.distcp"
    shard.write_bytes(bytes(64) + shard.read_bytes()[64:])
    desk.type(f"evaluate {DCP}", *SHIPPED_FAKE, code=1)
    found = {each["kind"]: each for each in desk.standings()}
    assert "__2_0.distcp" in found["convert"]["reason"]
    assert (found["evaluate"]["state"], found["evaluate"]["attempt"]) == ("owed", 0)
    assert found["convert"]["name"] in found["evaluate"]["reason"] and desk.converted() == []


def test_force_takes_nothing_from_whom_reads_the_conversion_of_before(desk: Desk) -> None:
    """It deleted the directory first: here an evaluation goes on reading while the conversion is made anew."""
    made = convert(desk)
    old = made.resolve()
    slow = ["--engine", "fake", "generation.in_flight=1", "eval.num_tests_per_prompt=400", "--wait", *LOCAL]
    reader = desk.start(f"evaluate {DCP}", *slow)
    try:
        wait_until(lambda: any(each["state"] == "running" for each in desk.standings()), 60)
        assert convert(desk, "--force-conversion") == made and made.resolve() != old
        assert (old / "model.safetensors").is_file() and (old / "config.json").is_file()
    finally:
        _, told = reader.communicate(timeout=240)
    assert reader.returncode == 0, told
    assert len(desk.rows("evals/eval")) == 1600


def test_dataset_key_is_another_word_for_split(desk: Desk) -> None:
    one, other = (
        desk.planned(f"evaluate {OWN} data.dataset_name=HuggingFaceH4/MATH-500 data.{key}=test", *LOCAL)
        for key in ("dataset_key", "split")
    )
    assert [each["key"] for each in one] == [each["key"] for each in other]
    told = desk.type(f"evaluate {OWN} data.dataset_key=test data.split=train --dry", *LOCAL, code=2).stderr
    assert "data.split is 'train' and data.dataset_key, another word for it, 'test'" in told


def test_greedy_decoding_with_several_responses_warns_and_runs(desk: Desk) -> None:
    """NeMo RL refuses what its own document shows."""
    told = desk.type(f"evaluate {OWN} eval.num_tests_per_prompt=3", *SHIPPED_FAKE).stderr
    assert "note: greedy decoding (temperature 0) with 3 responses to each prompt" in told
    assert len(desk.rows("evals/eval")) == 12


def test_scalar_of_a_sweep_is_one_value_and_numbers_are_numbers(desk: Desk) -> None:
    """A text was swept character by character, and `1e-1` was a text."""
    sweep = {"data.dataset_name": "HuggingFaceH4/MATH-500", "generation.temperature": [1, 0.5]}
    text = yaml.safe_dump(sweep) + "generation.top_p: [1e-1]\n"
    (desk.directory / "sweep.yaml").write_text(text)
    found = desk.planned(f"evaluate --sweep sweep.yaml {OWN}", *LOCAL)
    assert len(found) == 2 and {each["params"]["settings"]["name"] for each in found} == {"HuggingFaceH4/MATH-500"}
    assert {each["params"]["top_p"] for each in found} == {0.1}
    assert {each["point"]["generation.top_p"] for each in found} == {0.1}


def test_command_line_wins_over_the_sweep_and_the_sweep_over_the_config(desk: Desk) -> None:
    """The launcher's own values came last, and won."""
    (desk.directory / "sweep.yaml").write_text("generation.temperature: [0.3, 0.4]\neval.seed: [1, 2]\n")
    line = "evaluate --config examples/configs/eval_custom.yaml --sweep sweep.yaml"
    found = desk.planned(f"{line} {OWN} eval.seed=7", *LOCAL)
    assert sorted(each["params"]["temperature"] for each in found) == [0.3, 0.4]
    assert {each["params"]["seed"] for each in found} == {7}
    assert {each["params"]["top_p"] for each in found} == {0.95}, "of the config"


def test_values_with_blanks_and_quotes_arrive_as_they_were_typed(desk: Desk) -> None:
    """They were put into nested quotes and split at blanks."""
    text = """it's "two words" $HOME {"""
    words = ["evaluate", OWN, f"generation.stop_strings=[{json.dumps(text)}]", "--dry", "--json", *LOCAL]
    done = desk.type("", *words)
    (found,) = json.loads(done.stdout)
    assert found["params"]["stop"] == [text]


def test_misspelt_key_is_refused_with_the_nearest(desk: Desk) -> None:
    """NeMo RL takes it silently."""
    told = desk.type(f"evaluate {OWN} eval.num_test_per_prompt=16", *LOCAL, code=2).stderr
    assert "num_test_per_prompt" in told and "did you mean `" in told and "num_tests_per_prompt" in told


def test_variables_are_not_needed_on_this_machine_and_asked_for_at_once_on_slurm(desk: Desk) -> None:
    told = desk.type(f"evaluate {OWN} --dry --executor slurm", code=2, LOG="", ACCOUNT="", CON="").stderr
    assert "LOG, ACCOUNT, CON" in told and "hint: " in told
    desk.type(f"evaluate {OWN} --dry", *LOCAL, LOG="", ACCOUNT="", CON="")
    assert not os.path.exists(desk.directory / "holdfast-runs")
