"""The config of a collection of rollouts: typed, and checked before anything loads.

Precedence: the defaults that ship, the config file, the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from holdfast.core import config
from holdfast.core.errors import ConfigError, unknown_key
from holdfast.core.leaves import leaves
from holdfast.core.schema import Schema, validate

DEFAULTS = "rollouts.yaml"
OPEN = ("environment.settings.", "sampling.chat_template_kwargs.")
"""Below these the environment, and the chat template, say which keys there are."""


class EnvironmentSection(Schema):
    name: str | None
    settings: dict[str, Any]


class RolloutSection(Schema):
    turns: int | None = Field(ge=1)
    tool_calls: int | None = Field(ge=1)
    tokens: int | None = Field(ge=1)
    bad_turns: int = Field(ge=1)
    step_deadline: float = Field(gt=0)
    turn_deadline: float = Field(gt=0)
    deadline: float = Field(gt=0)


class SamplingSection(Schema):
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    top_k: int | None
    min_p: float | None = Field(ge=0, le=1)
    max_tokens: int | None = Field(ge=1)
    stop: list[str] | None
    stop_token_ids: list[int] | None
    chat_template_kwargs: dict[str, Any] | None
    seed: int | None


class EngineSection(Schema):
    name: str | None
    url: str | None
    api_key_env: str | None
    served_name: str | None
    port: int | None = Field(ge=1, le=65535)
    tensor_parallel: int = Field(ge=1)
    pipeline_parallel: int = Field(ge=1)
    gpu_memory_utilization: float | None = Field(gt=0, le=1)
    max_model_len: int | None = Field(ge=1)
    dtype: str | None
    enforce_eager: bool
    tool_call_parser: str | None
    reasoning_parser: str | None
    arguments: list[str]
    ready_within: float = Field(gt=0)


class CollectionSection(Schema):
    in_flight: int | None = Field(ge=1)
    most_in_flight: int = Field(ge=1)
    attempts: int = Field(ge=1)
    accept_missing: int = Field(ge=0)
    durability: Literal["group", "fsync", "flush"]
    call_deadline: float = Field(gt=0)
    tries: int = Field(ge=1)
    patience: float = Field(gt=0)
    stall: float = Field(gt=0)
    retries: int = Field(ge=0)


class ClusterSection(Schema):
    num_nodes: int = Field(ge=1)
    gpus_per_node: int | None = Field(ge=0)


class RolloutConfig(Schema):
    """One collection: every key of `rollouts.yaml`, which says what each is."""

    name: str | None
    model: str | None
    repeats: int = Field(ge=1)
    prompts: str | None
    environment: EnvironmentSection
    rollout: RolloutSection
    sampling: SamplingSection
    engine: EngineSection
    collection: CollectionSection
    cluster: ClusterSection


@dataclass(frozen=True)
class Settings:
    """A config, where it is from, which of its keys somebody set, dotted, and which of those on the command line."""

    config: RolloutConfig
    path: Path
    said: frozenset[str]
    typed: frozenset[str]

    @property
    def name(self) -> str:
        """What the collection is called."""
        return self.config.name or self.path.stem

    @property
    def prompts(self) -> Path | None:
        """The file of the prompt set: from where one types, or in a config from where that is."""
        if self.config.prompts is None:
            return None
        beside = Path() if "prompts" in self.typed else self.path.parent
        return (beside / Path(self.config.prompts).expanduser()).absolute()


def settle(path: Path, overrides: Sequence[str]) -> Settings:
    """The config in a file, overridden.

    Raises:
        ConfigError: an unknown key, with the nearest one; a value that cannot be; no environment, no model.
    """
    ships = config.shipped(__package__, DEFAULTS)
    written = config.read(path)
    _check_keys(written, ships, f"config {path}")
    merged = config.apply(config.merge(ships, written), [_opened(token) for token in overrides])
    found = validate(RolloutConfig, config.resolve(merged, str(path)), f"config {path}")
    for key, value in (("environment.name", found.environment.name), ("model", found.model)):
        if value is None:
            raise ConfigError(f"config {path} needs {key}, which is not given", f"add it to {path}, or {key}=...")
    typed = frozenset(map(config.key_of, overrides))
    return Settings(found, path, frozenset(leaves(written)) | typed, typed)


def _opened(token: str) -> str:
    """What is set below an open key is there, whether a config says it or not."""
    return f"++{token}" if token.startswith(OPEN) else token


def _check_keys(written: Mapping[str, Any], ships: Mapping[str, Any], where: str, prefix: str = "") -> None:
    for key, value in written.items():
        if key not in ships:
            raise unknown_key(f"{prefix}{key}", list(ships), where)
        below = ships[key]
        if isinstance(value, dict) and isinstance(below, dict) and f"{prefix}{key}." not in OPEN:
            _check_keys(value, below, where, f"{prefix}{key}.")
