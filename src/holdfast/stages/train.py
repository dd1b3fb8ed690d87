"""Reinforcement learning from a model directory, with checkpoints published while it runs.

The home is filled across attempts: each resumes from the newest checkpoint whose every byte verifies, and ends with
the same weights as a run that was never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from holdfast.core import artifact, files, kind
from holdfast.core.errors import Stopped
from holdfast.core.kind import Kind
from holdfast.environments import with_version

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.training.grpo import GrpoSettings, Hooks

CHECKPOINTS = "training_state"
LATEST = "step_latest"


class TrainParams(kind.Params):
    """Everything that decides the weights, and the steps at which they are kept."""

    run: str
    """Name of the run; another name is another run of the same settings."""
    algorithm: Literal["grpo"] = "grpo"
    environment: str
    settings: dict[str, Any] = Field(default_factory=lambda: {"split": "train"})
    """Which of the environment's problems."""
    seed: int = 0
    environment_version: int = kind.added(1, as_before=1)
    """Filled in from the environment: what a reward means is part of what was done."""
    steps: int = Field(ge=1)
    """Optimizer steps in all; an absolute target."""
    save_at: tuple[int, ...] = ()
    """Steps at which a checkpoint is published, beside the last one."""
    save_every: int | None = Field(None, ge=1)
    """And every so many steps."""
    lr: float = Field(3e-4, gt=0)
    completions: int = Field(128, ge=1)
    """Completions per optimizer step."""
    group: int = Field(8, ge=2)
    """Completions per prompt: the advantage is relative to their mean."""
    temperature: float = Field(1.0, gt=0)
    max_tokens: int | None = Field(None, ge=1)
    """Of a completion; None takes the environment's own limit."""
    kl_weight: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def check_groups(self) -> Self:
        if self.completions % self.group:
            raise ValueError(f"completions ({self.completions}) must be a multiple of group ({self.group})")
        return self

    @model_validator(mode="after")
    def check_steps(self) -> Self:
        beyond = [step for step in self.save_at if not 1 <= step <= self.steps]
        if beyond:
            raise ValueError(f"save_at ({beyond}) must be between 1 and steps ({self.steps})")
        return self


class Train(Kind):
    """Exclusive: two trainers in one run would overwrite each other."""

    name = "train"
    exclusive = True
    loose = ("logs/*", "tensorboard/*", "wandb/*")
    inputs = ("model",)
    Params = TrainParams

    def fill(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_version(params)

    def home(self, name: str) -> str:
        return f"training_runs/{name}"

    def run(self, params: TrainParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.environments import load_environment
        from holdfast.training.grpo import train_grpo

        _write_config(out.path, params)
        found = out.artifacts(CHECKPOINTS)
        environment = load_environment(params.environment, params.settings)
        settings = _settings(params, params.max_tokens or environment.max_tokens)
        reached = _resume_point(found, params, out)
        if reached < params.steps:
            hooks = _hooks(params, out)
            reached = train_grpo(settings, environment, inputs["model"], hooks, found[0] if found else None)
        if reached < params.steps:
            raise Stopped(f"stopped at step {reached} of {params.steps}")

    def owed(self, params: TrainParams, home: Path) -> str | None:
        last = home / CHECKPOINTS / f"step_{params.steps}"
        return None if artifact.read(last) else f"ended without its last checkpoint: {last.name}"


def _settings(params: TrainParams, max_tokens: int) -> GrpoSettings:
    from holdfast.training.grpo import GrpoSettings

    return GrpoSettings(
        total_steps=params.steps,
        seed=params.seed,
        learning_rate=params.lr,
        completions_per_step=params.completions,
        group_size=params.group,
        temperature=params.temperature,
        max_new_tokens=max_tokens,
        kl_weight=params.kl_weight,
    )


def _resume_point(found: list[Path], params: TrainParams, out: Output) -> int:
    """The step that is done; `step_latest` says so even if the attempt before died between the two."""
    step = _step(found[0]) if found else 0
    if found:
        files.point(out.path / CHECKPOINTS / LATEST, found[0].name)
    out.progress(step, params.steps, "step")
    return step


def _hooks(params: TrainParams, out: Output) -> Hooks:
    from holdfast.training.grpo import Hooks

    def save(step: int, fill: Callable[[Path], None]) -> None:
        with out.artifact(f"{CHECKPOINTS}/step_{step}") as directory:
            fill(directory)
        files.point(out.path / CHECKPOINTS / LATEST, f"step_{step}")

    def log(step: int, values: Mapping[str, float]) -> None:
        out.metric(step, **values)
        out.progress(step, params.steps, "step")
        _log_line(out.path / "logs" / "train_log.jsonl", {"step": step, "attempt": out.attempt, **values})

    def should_save(step: int) -> bool:
        return step in params.save_at or (params.save_every is not None and step % params.save_every == 0)

    return Hooks(save=save, should_save=should_save, should_stop=out.stop_requested, log=log)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def _write_config(home: Path, params: TrainParams) -> None:
    """`config.yaml`, for people and for tools that read it."""
    import yaml

    files.replace(home / "config.yaml", yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False).encode())


def _log_line(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
