"""What NeMo RL's keys come to: engine, sampling, problems; nothing is guessed from the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments import templates
from holdfast.pipelines.evaluate import params, settings
from holdfast.stages.evaluate import EvaluateParams


def settle(*tokens: str) -> settings.Settings:
    return settings.settle(None, tokens)


@pytest.mark.parametrize(
    ("tokens", "gpus", "on_cluster", "engine"),
    [
        ((), None, False, "transformers"),
        ((), None, True, "vllm"),
        ((), 8, False, "vllm"),
        ((), 0, True, "transformers"),
        (("cluster.gpus_per_node=4",), None, False, "vllm"),
        (("generation.url=http://host:8000/v1",), 8, True, "url"),
        (("generation.backend=sglang",), 0, False, "sglang"),
    ],
)
def test_engine_follows_what_was_asked_for_and_never_what_is_here(
    tokens: tuple[str, ...], gpus: int | None, on_cluster: bool, engine: str
) -> None:
    assert params.engine_of(settle(*tokens), gpus=gpus, on_cluster=on_cluster) == engine


def test_every_param_is_one_of_the_stage() -> None:
    for engine in ("vllm", "sglang", "transformers", "url", "fake"):
        found = params.params(settle("generation.url=http://x/v1", "eval.save_path=out"), engine, 3)
        assert set(found) <= set(EvaluateParams.model_fields)


def test_minus_one_keeps_all_tokens_and_stops_arrive_as_they_are() -> None:
    found = params.params(settle("generation.top_k=-1", 'generation.stop_strings=["\\n\\n", "a, b"]'), "vllm", None)
    assert found["top_k"] is None
    assert found["stop"] == ["\n\n", "a, b"]


def test_prompt_file_of_nemo_rl_has_its_place_filled(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Solve: {}\nEnd with \\boxed{{}}.")
    _, found = params.problems(settle(f"data.prompt_file={tmp_path}/prompt.txt").config)
    assert templates.fill(found["prompt"], "2+2") == "Solve: 2+2\nEnd with \\boxed{}."
    (tmp_path / "prompt.txt").write_text("no place")
    with pytest.raises(UserError, match="no place for the problem"):
        params.problems(settle(f"data.prompt_file={tmp_path}/prompt.txt").config)


def test_split_and_its_other_word_may_not_contradict_each_other() -> None:
    assert params.problems(settle("data.dataset_key=train").config)[1]["split"] == "train"
    with pytest.raises(ConfigError, match="another word for it"):
        settle("data.dataset_key=train", "data.split=test")


def test_repeating_the_data_set_is_refused_with_what_is_meant() -> None:
    with pytest.raises(ConfigError) as error:
        params.problems(settle("data.repeat=3", "eval.num_tests_per_prompt=2").config)
    assert "eval.num_tests_per_prompt=6" in error.value.hint
