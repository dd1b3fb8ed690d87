"""Group relative policy optimisation with TRL, in a form that can be stopped and goes on bit for bit.

TRL stays the trainer. Ours are the state and its lifecycle: what is saved, when, through which callable, and how it
comes back. Three things make a resumed run end with the weights of one that was never stopped (one process, same
number of threads):

- The order of the prompts is a list that depends on the seed alone (`draw_order`), and TRL reads it front to back as
a single
  epoch. Its own sampler starts its generator over on a resume in any later epoch.
- Each optimizer step generates its own completions, so no step boundary lies in the middle of a generation buffer.
- Every random state is saved at the step boundary and restored by TRL's hook after everything that consumes randomness.

Only primitive values and tensors are saved, so `torch.load(weights_only=True)` reads all of it without an allowlist.
`_save_checkpoint`, `_load_rng_state` and `_step` are private to transformers and TRL: their versions are pinned, and
`tests/training/test_grpo.py` holds the promise.
"""

from __future__ import annotations

import json
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core import files
from holdfast.environments import Environment
from holdfast.training.model_directory import write_model

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

Save = Callable[[int, Callable[[Path], None]], None]
"""`save(step, fill)` publishes what `fill(directory)` writes."""


@dataclass(frozen=True)
class GrpoSettings:
    """The algorithm's own knobs, in TRL's meaning."""

    total_steps: int
    seed: int
    learning_rate: float
    completions_per_step: int
    group_size: int
    temperature: float
    max_new_tokens: int
    kl_weight: float


@dataclass(frozen=True)
class Hooks:
    """How the trainer talks to its surroundings, at step boundaries only."""

    save: Save
    """Publish the state of this step."""
    should_save: Callable[[int], bool]
    should_stop: Callable[[int], bool]
    """Whether to save and end after this step."""
    log: Callable[[int, Mapping[str, float]], None]
    """Called once per step with reward, loss, entropy, kl where there is one, completion_length."""


def train_grpo(
    settings: GrpoSettings, environment: Environment, model_path: Path, hooks: Hooks, checkpoint: Path | None = None
) -> int:
    """Train from `model_path`, or on from `checkpoint` (a directory that `hooks.save` published); returns the last
    step.

    The state of the last step is always saved.
    """
    from transformers import PrinterCallback
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="holdfast-grpo-") as scratch, warnings.catch_warnings():
        # TRL 1.16 asks for gradient checkpointing by a name that transformers 5.23 is about to drop.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        trainer = _make_trainer(settings, environment, model_path, hooks, Path(scratch))
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_as_trainer_checkpoint(checkpoint, Path(scratch)) if checkpoint else None)
        return int(trainer.state.global_step)


def draw_order(count: int, length: int, seed: int) -> list[int]:
    """`length` indices below `count`: one permutation after another. A longer order begins with the shorter one."""
    order: list[int] = []
    epoch = 0
    while len(order) < length:
        permutation = list(range(count))
        random.Random(f"{seed}:{epoch}").shuffle(permutation)
        order += permutation
        epoch += 1
    return order[:length]


def _make_trainer(
    settings: GrpoSettings, environment: Environment, model_path: Path, hooks: Hooks, scratch: Path
) -> GRPOTrainer:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from holdfast.training.grpo_trainer import StatefulGrpoTrainer

    return StatefulGrpoTrainer(
        hooks=hooks,
        about={"settings": asdict(settings), "environment": environment.identity()},
        model=AutoModelForCausalLM.from_pretrained(model_path, local_files_only=True, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(model_path, local_files_only=True, padding_side="left"),
        reward_funcs=_reward_function(environment),
        args=_configure(settings, scratch),
        train_dataset=_lay_out_prompts(settings, environment),
    )


def _configure(settings: GrpoSettings, scratch: Path) -> GRPOConfig:
    import torch
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(scratch),
        max_steps=settings.total_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",  # a run that is trained further later needs no other schedule
        per_device_train_batch_size=settings.completions_per_step,
        num_generations=settings.group_size,
        temperature=settings.temperature,
        max_completion_length=settings.max_new_tokens,
        beta=settings.kl_weight,
        seed=settings.seed,
        shuffle_dataset=False,  # the order is laid out already, see `draw_order`
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )


def _lay_out_prompts(settings: GrpoSettings, environment: Environment) -> Dataset:
    from datasets import Dataset

    prompts = environment.prompts()
    per_step = settings.completions_per_step // settings.group_size
    order = draw_order(len(prompts), settings.total_steps * per_step, settings.seed)
    rows = [prompts[index] for index in order]
    return Dataset.from_dict({"prompt": [row.text for row in rows], "prompt_id": [row.id for row in rows]})


def _reward_function(environment: Environment) -> Callable[..., list[float]]:
    def reward(completions: list[str], prompt_id: list[str], **_: Any) -> list[float]:
        return [environment.reward(which, text) for which, text in zip(prompt_id, completions, strict=True)]

    return reward


def _as_trainer_checkpoint(checkpoint: Path, scratch: Path) -> str:
    """What the trainer wants to read, made of links to what we published."""
    step = read_info(checkpoint)["step"]
    directory = scratch / f"checkpoint-{step}"
    directory.mkdir()
    found = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", checkpoint / "trainer_state.json"]
    for path in [*found, checkpoint / "ranks", *(checkpoint / "model").iterdir()]:
        (directory / path.name).symlink_to(path.resolve())
    return str(directory)


def read_info(checkpoint: Path) -> dict[str, Any]:
    """`training_info.json` of a checkpoint: step, settings, environment, versions, world size."""
    return files.read(checkpoint / "training_info.json", "training info")


def fill_checkpoint(directory: Path, trainer: Any, about: Mapping[str, Any]) -> None:
    """Write `model/, optimizer.pt, scheduler.pt, trainer_state.json, ranks/rank_0.pt, training_info.json`."""
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model)
    write_model(directory / "model", model, trainer.processing_class)
    torch.save(trainer.optimizer.state_dict(), directory / "optimizer.pt")
    torch.save(trainer.lr_scheduler.state_dict(), directory / "scheduler.pt")
    trainer.state.save_to_json(str(directory / "trainer_state.json"))
    (directory / "ranks").mkdir()
    torch.save(trainer.rank_state(), directory / "ranks" / "rank_0.pt")
    info = {
        "step": trainer.state.global_step,
        **about,
        "world_size": 1,
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }
    (directory / "training_info.json").write_text(json.dumps({"schema": files.SCHEMA, **info}, indent=1) + "\n")
