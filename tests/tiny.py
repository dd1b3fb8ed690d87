"""What tests of the ML share: a model of a few thousand weights, and an `Output` that writes below a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from holdfast.core import files
from holdfast.core.output import Output


def write_tiny(directory: Path, seed: int = 0) -> Path:
    """An untrained model that knows its tokenizer and nothing else."""
    from holdfast.training.model_directory import write_model
    from holdfast.training.tiny_model import make_model, make_tokenizer

    write_model(directory, make_model(seed, hidden=32, layers=1), make_tokenizer())
    return directory


def write_chat_model(directory: Path, seed: int = 0) -> Path:
    """As `write_tiny`, with a chat template."""
    write_tiny(directory, seed)
    (directory / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    return directory


def write_step_170(directory: Path) -> Path:
    """`results/grpo/step_170` of a model of ours, as NeMo RL saves it, and the model beside it; returns the step."""
    from tests.checkpoints.nemo_rl import save_v1, write_step
    from transformers import AutoModelForCausalLM

    model = write_chat_model(directory / "base")
    step = write_step(directory / "results" / "grpo", 170, model)
    save_v1(AutoModelForCausalLM.from_pretrained(model).state_dict(), step)
    return step


def make_output(
    directory: Path,
    attempt: int = 1,
    *,
    environ: Mapping[str, str] | None = None,
    digests: Mapping[str, str] | None = None,
    of: type[Output] = Output,
) -> Output:
    """The output of one attempt at a stage whose home is `directory/home`."""
    for name in ("home", "record", "collections"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return of(
        directory / "home",
        key="k" * 64,
        attempt=attempt,
        token=files.new_token(),
        record=directory / "record",
        collections=directory / "collections",
        environ=environ or {},
        input_digests=digests or {},
    )


def wait_for(path: Path, seconds: float = 60.0) -> None:
    """Until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path} after {seconds} s"
        time.sleep(0.005)


def one_thread() -> dict[str, str]:
    """The environment of a program that must do the same sums in the same order, and reach for no hub."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
