"""TRL's GRPO trainer with our state: it saves through a hook and restores what TRL forgets. Importing this loads
torch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer

from holdfast.training.grpo import fill_checkpoint

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from holdfast.training.grpo import Hooks

LOGGED = {
    "reward": "reward",
    "loss": "loss",
    "entropy": "entropy",
    "kl": "kl",
    "grad_norm": "grad_norm",
    "completions/mean_length": "completion_length",
    "step_time": "step_seconds",
}
"""TRL's names of what is worth a line per step, and ours."""


class StatefulGrpoTrainer(GRPOTrainer):
    """Saves and restores all that decides the next step."""

    def __init__(self, *, hooks: Hooks, about: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._hooks = hooks
        self._about = about
        self.add_callback(_Boundaries(hooks))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._hooks.save(self.state.global_step, partial(fill_checkpoint, trainer=self, about=self._about))

    def rank_state(self) -> dict[str, Any]:
        """Random states and counters of this process, as primitive values and tensors only."""
        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(np.array(keys)), position, has_gauss, cached),
            "torch": torch.random.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "inner_step": self._step,
            "tokens": self._total_train_tokens,
        }

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = torch.load(Path(checkpoint) / "ranks" / "rank_0.pt", map_location="cpu", weights_only=True)
        random.setstate(state["python"])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy(), *rest))
        torch.random.set_rng_state(state["torch"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        self._step = state["inner_step"]
        self._total_train_tokens = state["tokens"]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Not ours to publish."""


class _Boundaries(TrainerCallback):
    """Asks the hooks after every optimizer step."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        stop = self._hooks.should_stop(state.global_step)
        control.should_save = stop or state.global_step == state.max_steps or self._hooks.should_save(state.global_step)
        control.should_training_stop = control.should_training_stop or stop
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        found = {ours: logs[theirs] for theirs, ours in LOGGED.items() if logs and logs.get(theirs) is not None}
        if "reward" in found:
            self._hooks.log(state.global_step, found)
