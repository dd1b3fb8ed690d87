"""What a training script does around its algorithm: config, resume, checkpoints, metrics, a time limit.

The layout is NeMo RL's: `step_N/training_info.json`, a checkpoint renamed into place, resume from the newest. Nothing
of Holdfast is imported; where to write comes as overrides, or from `HOLDFAST_*` when there is no config to override.

The problem is a toy: 64 prompts with 16 features, 8 possible answers of which a hidden teacher calls one right.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

PROMPTS, FEATURES, ANSWERS = 64, 16, 8

Array = NDArray[np.float64]
Weights = dict[str, Array]


def read_config(default: Path) -> DictConfig:
    """The config that the command line asks for: `--config FILE`, then `key=value`, `+key=value`, `~key`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, default=default)
    options, overrides = parser.parse_known_args()
    config = with_defaults(options.config)
    OmegaConf.set_struct(config, True)
    for token in overrides:
        key, _, text = token.partition("=")
        value = OmegaConf.from_dotlist([f"value={text}"])["value"]
        OmegaConf.update(config, key.lstrip("+"), value, force_add=key.startswith("+"))
    return config


def with_defaults(path: Path) -> DictConfig:
    """A YAML file over the one that its `defaults:` names."""
    own = OmegaConf.load(path)
    assert isinstance(own, DictConfig)
    parent = own.pop("defaults", None)
    merged = OmegaConf.merge(with_defaults(path.parent / parent), own) if parent else own
    assert isinstance(merged, DictConfig)
    return merged


class Problem:
    """The prompts, and which answer to each is right."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.features: Array = rng.normal(size=(PROMPTS, FEATURES))
        self.right = (self.features @ rng.normal(size=(FEATURES, ANSWERS))).argmax(axis=1)

    def rewards(self, prompts: NDArray[np.int64], answers: NDArray[np.int64]) -> Array:
        """1 for the right answer; `answers` is (prompts, responses)."""
        rewards: Array = (answers == self.right[prompts][:, None]).astype(np.float64)
        return rewards


def new_weights(model_name: str, seed: int) -> Weights:
    """Two layers, the wider the larger the model that is named; the last begins at zero, so all answers are alike."""
    size = re.search(r"([\d.]+)B", model_name)
    width = 8 + 8 * round(float(size[1]) if size else 0.5)
    rng = np.random.default_rng(seed + 1)
    return {"first": rng.normal(size=(FEATURES, width)) / 4, "last": np.zeros((width, ANSWERS))}


def probabilities(weights: Weights, features: Array) -> tuple[Array, Array]:
    """(hidden, p): what the first layer makes of the features, and the chance of each answer."""
    hidden = np.tanh(features @ weights["first"])
    logits = hidden @ weights["last"]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, exponents / exponents.sum(axis=1, keepdims=True)


def ascend(weights: Weights, features: Array, hidden: Array, slope: Array, rates: dict[str, float]) -> Weights:
    """One step up, for the slope of the objective by the logits."""
    back = (slope @ weights["last"].T) * (1 - hidden**2)
    return {
        **weights,
        "first": weights["first"] + rates["first"] * features.T @ back,
        "last": weights["last"] + rates["last"] * hidden.T @ slope,
    }


class Run:
    """A run's directories; resumes from the newest checkpoint."""

    def __init__(self, config: DictConfig, fresh: Weights) -> None:
        out = os.environ.get("HOLDFAST_OUT")
        configured = Path(config.checkpointing.checkpoint_dir)
        own = Path(out) / "checkpoints" if out and not configured.is_absolute() else configured
        self.config = config
        self.directory = own
        self.metrics = Path(os.environ.get("HOLDFAST_METRICS") or own.parent / "metrics.jsonl")
        self.started = time.monotonic()
        own.mkdir(parents=True, exist_ok=True)
        self.step, self.weights = self._newest() or (0, fresh)

    def _newest(self) -> tuple[int, Weights] | None:
        steps = [
            int(match[1]) for each in self.directory.iterdir() if (match := re.fullmatch(r"step_(\d+)", each.name))
        ]
        if not steps:
            return None
        with np.load(self.directory / f"step_{max(steps)}" / "policy.npz", allow_pickle=False) as kept:
            return max(steps), dict(kept)

    def train(self, total: int, update: Callable[[Weights, int], tuple[Weights, dict[str, float]]]) -> None:
        """Go on until step `total`, or until the time to save has come."""
        limit = seconds(self.config.checkpointing.checkpoint_must_save_by)
        while self.step < total:
            self.weights, values = update(self.weights, self.step)
            self.step += 1
            self._log(values)
            is_late = limit is not None and time.monotonic() - self.started >= limit
            if is_late or self.step == total or self.step % self.config.checkpointing.save_period == 0:
                self._save(values)
            if is_late and self.step < total:
                print("Timeout has been reached, stopping training early", flush=True)
                return
        print(f"done at step {self.step}", flush=True)

    def _log(self, values: dict[str, float]) -> None:
        attempt = int(os.environ.get("HOLDFAST_ATTEMPT_NUMBER", "1"))
        rows = [
            {"step": self.step, "name": name, "value": value, "time": time.time(), "attempt": attempt}
            for name, value in values.items()
        ]
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def _save(self, values: dict[str, float]) -> None:
        built = self.directory / f"tmp_step_{self.step}"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        np.savez(built / "policy.npz", allow_pickle=False, **self.weights)
        info = {"total_steps": self.step, "current_step": self.step, "current_epoch": 0, "val:reward": values["reward"]}
        (built / "training_info.json").write_text(json.dumps(info))
        (built / "config.yaml").write_text(OmegaConf.to_yaml(self.config, resolve=True))
        if not (self.directory / f"step_{self.step}").exists():
            built.rename(self.directory / f"step_{self.step}")


def seconds(text: Any) -> float | None:
    """D:H:M:S, or None."""
    if text is None:
        return None
    days, hours, minutes, rest = map(float, str(text).split(":"))
    return days * 86400 + hours * 3600 + minutes * 60 + rest


def batch(config: DictConfig, step: int) -> tuple[np.random.Generator, NDArray[np.int64]]:
    """The randomness of a step, the same after a resume, and its prompts."""
    rng = np.random.default_rng([config.model.seed, step])
    return rng, rng.choice(PROMPTS, size=config.task.prompts_per_step, replace=False)


def sample(rng: np.random.Generator, chances: Array, count: int) -> NDArray[np.int64]:
    """(prompts, count) answers."""
    return np.stack([rng.choice(ANSWERS, size=count, p=row) for row in chances])
