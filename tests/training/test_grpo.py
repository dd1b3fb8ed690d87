"""A stopped run ends with the weights of one that was not: without that no comparison of runs means anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import write_tiny

from holdfast.core.artifact import digest_of
from holdfast.environments.addition import Addition, AdditionSettings
from holdfast.training.grpo import GrpoSettings, Hooks, draw_order, read_info, train_grpo

pytestmark = pytest.mark.train
STEPS = 6
SETTINGS = GrpoSettings(
    total_steps=STEPS,
    seed=3,
    learning_rate=1e-2,
    completions_per_step=16,
    group_size=4,
    temperature=1.0,
    max_new_tokens=3,
    kl_weight=0.0,
)
Log = list[tuple[int, dict[str, float]]]


class Digits(Addition):
    """Worth the more, the more sevens: unlike a right sum, something that an untrained model finds now and then."""

    def reward(self, prompt_id: str, completion: str) -> float:
        return completion.count("7") + completion.count("3") / 2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in another order are other sums."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model"))


def train(model: Path, directory: Path, stop_at: int, checkpoint: Path | None = None) -> Log:
    """Train to `stop_at` with checkpoints in `directory`; 6 problems, so that 24 prompts are four epochs of them."""
    log: Log = []

    def save(step: int, fill: Callable[[Path], None]) -> None:
        (directory / f"step_{step}").mkdir(parents=True)
        fill(directory / f"step_{step}")

    def note(step: int, values: Any) -> None:
        log.append((step, {name: value for name, value in values.items() if name != "step_seconds"}))

    hooks = Hooks(save=save, should_save=lambda step: False, should_stop=lambda step: step >= stop_at, log=note)
    environment = Digits(AdditionSettings(split="train", count=6))
    assert train_grpo(SETTINGS, environment, model, hooks, checkpoint) == min(stop_at, STEPS)
    return log


def digests(checkpoint: Path) -> dict[str, str]:
    """Of the state that decides every later step."""
    names = ("model/model.safetensors", "optimizer.pt", "scheduler.pt", "ranks/rank_0.pt")
    return {name: digest_of(checkpoint / name) for name in names}


def test_a_run_stopped_twice_ends_bit_for_bit_like_one_that_never_was(model: Path, tmp_path: Path) -> None:
    whole = train(model, tmp_path / "whole", STEPS)
    parts = train(model, tmp_path / "parts", 2)
    parts += train(model, tmp_path / "parts", 3, tmp_path / "parts" / "step_2")
    parts += train(model, tmp_path / "parts", STEPS, tmp_path / "parts" / "step_3")
    assert digests(tmp_path / "parts" / "step_6") == digests(tmp_path / "whole" / "step_6")
    assert parts == whole
    assert digests(tmp_path / "parts" / "step_3") != digests(tmp_path / "whole" / "step_6")
    assert [step for step, _ in whole] == list(range(1, STEPS + 1))
    assert all(values["grad_norm"] > 0 for _, values in whole), "without a gradient every run is like every other"
    assert {"reward", "loss", "entropy", "completion_length"} <= whole[0][1].keys()


def test_a_checkpoint_is_a_model_that_anybody_can_load(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train(model, tmp_path, 1)
    found = tmp_path / "step_1"
    assert read_info(found)["step"] == 1
    assert not list(found.rglob("training_args.bin")), "a pickle that nobody may load"
    loaded = AutoModelForCausalLM.from_pretrained(found / "model")
    assert loaded.generation_config.do_sample is True
    assert AutoTokenizer.from_pretrained(found / "model").decode([1], skip_special_tokens=True) == ""
    assert digest_of(found / "model" / "model.safetensors") != digest_of(model / "model.safetensors")


@given(count=st.integers(1, 20), length=st.integers(0, 60), more=st.integers(0, 30), seed=st.integers(0, 5))
def test_a_longer_run_begins_with_the_same_prompts(count: int, length: int, more: int, seed: int) -> None:
    order = draw_order(count, length, seed)
    assert len(order) == length
    assert draw_order(count, length + more, seed)[:length] == order
    assert all(sorted(order[at : at + count]) == list(range(count)) for at in range(0, length - count + 1, count))
