"""The config of an evaluation: NeMo RL's `eval.yaml`, typed, and checked before anything loads.

Precedence: the defaults that ship, the config file, the sweep, the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from holdfast.core import config
from holdfast.core.errors import ConfigError
from holdfast.core.leaves import leaves
from holdfast.core.schema import Schema, validate

DEFAULTS = "eval.yaml"


class EvalSection(Schema):
    metric: Literal["pass@k", "cons@k"]
    num_tests_per_prompt: int = Field(ge=1)
    seed: int
    k_value: int = Field(ge=1)
    save_path: str | None


class VllmSection(Schema):
    async_engine: bool
    precision: str
    tensor_parallel_size: int = Field(ge=1)
    pipeline_parallel_size: int = Field(ge=1)
    expert_parallel_size: int = Field(ge=1)
    gpu_memory_utilization: float = Field(gt=0, le=1)
    max_model_len: int | None = Field(ge=1)
    enforce_eager: bool


class GenerationSection(Schema):
    backend: str | None
    max_new_tokens: int | None = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    top_k: int | None
    val_temperature: float
    val_top_p: float
    val_top_k: int | None
    num_prompts_per_step: int
    model_name: str
    stop_token_ids: list[int] | None
    stop_strings: list[str] | None
    vllm_cfg: VllmSection
    colocated: dict[str, Any]
    url: str | None
    api_key_env: str | None
    in_flight: int | None = Field(ge=1)
    engine_arguments: list[str] | None


class TokenizerSection(Schema):
    name: str
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None


class DataSection(Schema):
    max_input_seq_length: int | None
    prompt_file: str | None
    system_prompt_file: str | None
    dataset_name: str
    processor: str | None
    repeat: int = Field(ge=1)
    env_name: str | None
    problem_key: str | None
    solution_key: str | None
    split: str | None
    dataset_key: str | None
    file_format: str | None
    subset: str | None
    revision: str | None
    count: int | None = Field(ge=1)
    fraction: float | None = Field(gt=0, le=1)
    seed: int | None


class MathSection(Schema):
    num_workers: int = Field(ge=1)
    verifier_type: str | None


class EnvSection(Schema):
    math: MathSection


class ClusterSection(Schema):
    gpus_per_node: int = Field(ge=0)
    num_nodes: int = Field(ge=1)


class EvalConfig(Schema):
    """One evaluation, resolved: every key of `eval.yaml`, which says what each is."""

    eval: EvalSection
    generation: GenerationSection
    tokenizer: TokenizerSection
    data: DataSection
    env: EnvSection
    cluster: ClusterSection


@dataclass(frozen=True)
class Settings:
    """A config and which of its keys somebody set, dotted.

    A key that a file sets to its default is as good as unset, so that a copy of the defaults changes nothing.
    """

    config: EvalConfig
    said: frozenset[str]


@dataclass(frozen=True)
class Base:
    """A config file over the defaults, read once for all points: interpolations unresolved."""

    where: str
    content: dict[str, Any]
    said: frozenset[str]

    def settle(self, overrides: Sequence[str]) -> Settings:
        """The config of one point.

        Raises:
            ConfigError: an unknown key, with the nearest one; a value that cannot be; keys that contradict each other.
        """
        merged = config.resolve(config.apply(self.content, overrides), self.where)
        found = validate(EvalConfig, merged, f"config {self.where}")
        _check(found, self.where)
        return Settings(found, self.said.union(map(config.key_of, overrides)))


def read(path: str | None) -> Base:
    """The config file over the defaults; without one these alone.

    Raises:
        ConfigError: it cannot be read.
    """
    defaults = config.shipped(__package__, DEFAULTS)
    written = config.read(Path(path)) if path else {}
    usual = leaves(defaults)
    said = {name for name, value in leaves(written).items() if name not in usual or value != usual[name]}
    return Base(path or DEFAULTS, config.merge(defaults, written), frozenset(said))


def settle(path: str | None, overrides: Sequence[str]) -> Settings:
    """The config of a command line without a sweep.

    Raises:
        ConfigError: as `read` and `Base.settle` do.
    """
    return read(path).settle(overrides)


def _check(found: EvalConfig, where: str) -> None:
    if found.eval.k_value > found.eval.num_tests_per_prompt:
        raise ConfigError(
            f"config {where}: eval.k_value is {found.eval.k_value}, and eval.num_tests_per_prompt only "
            f"{found.eval.num_tests_per_prompt}",
            f"set eval.num_tests_per_prompt={found.eval.k_value}, or a smaller k",
        )
    data = found.data
    if data.split is not None and data.dataset_key is not None and data.split != data.dataset_key:
        raise ConfigError(
            f"config {where}: data.split is {data.split!r} and data.dataset_key, another word for it, "
            f"{data.dataset_key!r}",
            "leave one of them out",
        )
