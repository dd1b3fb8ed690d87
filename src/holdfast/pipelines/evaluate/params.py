"""From a config with NeMo RL's keys to the params of an `evaluate` stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments import SHIPPED, settings_of
from holdfast.pipelines.evaluate.settings import DataSection, EvalConfig, Settings
from holdfast.pipelines.models import usual_engine

DATASET = "dataset"
OWN_RULE = {"english_multichoice": "multiple_choice", "multilingual_multichoice": "multiple_choice"}
"""NeMo RL's names of verifiers, and ours."""
PLACE = "{}"
"""Where NeMo RL's prompt files have the problem."""


def engine_of(settings: Settings, *, gpus: int | None, on_cluster: bool) -> str:
    """The engine that was named, otherwise the usual one."""
    generation = settings.config.generation
    if generation.backend:
        return generation.backend
    if generation.url:
        return "url"
    asked = settings.config.cluster.gpus_per_node if "cluster.gpus_per_node" in settings.said else None
    return usual_engine(gpus if gpus is not None else asked, on_cluster=on_cluster)


def params(settings: Settings, engine: str, step: int | None) -> dict[str, Any]:
    """The params of the stage: what is asked, how tokens are drawn, by which engine, and which score counts."""
    config = settings.config
    environment, chosen = problems(config)
    return {
        "environment": environment,
        "settings": chosen,
        "repeats": config.eval.num_tests_per_prompt,
        "engine": engine,
        "step": step,
        "metric": config.eval.metric,
        "k": config.eval.k_value,
        **dict(_sampling(config)),
        **dict(_serving(settings, engine)),
        **dict(_template(config)),
        **({"save_path": str(Path(config.eval.save_path).absolute())} if config.eval.save_path else {}),
    }


def problems(config: EvalConfig) -> tuple[str, dict[str, Any]]:
    """The environment and its settings: one of ours by name, otherwise a data set."""
    data = config.data
    if data.repeat > 1:
        raise ConfigError(
            f"data.repeat is {data.repeat}, and rows are told apart by prompt and repeat",
            f"ask for more responses: eval.num_tests_per_prompt={data.repeat * config.eval.num_tests_per_prompt}",
        )
    put = "raw" if config.tokenizer.chat_template is None else None
    split = data.split if data.split is not None else data.dataset_key
    if data.dataset_name in SHIPPED or ":" in data.dataset_name:
        given = {"split": split, "count": data.count, "seed": data.seed, "fraction": data.fraction}
        has = settings_of(data.dataset_name)
        chosen = _without_nothing(given) | ({"format": put} if put and "format" in has else {})
        return data.dataset_name, chosen
    wanted = {
        "name": data.dataset_name,
        "split": split,
        "problem_key": data.problem_key,
        "solution_key": data.solution_key,
        "file_format": data.file_format,
        "subset": data.subset,
        "revision": data.revision,
        "count": data.count,
        "fraction": data.fraction,
        "seed": data.seed,
        "verifier": _verifier(config),
        "prompt": _prompt(data),
        "system_prompt": _read(data.system_prompt_file, "data.system_prompt_file"),
        "format": put,
    }
    return DATASET, _without_nothing(wanted)


def _verifier(config: EvalConfig) -> str | None:
    named = config.env.math.verifier_type
    return OWN_RULE.get(named, named) if named else None


def _prompt(data: DataSection) -> str | None:
    text = _read(data.prompt_file, "data.prompt_file")
    if text is not None and PLACE not in text and "{problem}" not in text:
        raise UserError(f"{data.prompt_file} has no place for the problem", "write {} where it goes")
    return text


def _read(path: str | None, what: str) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what} cannot be read: {path}: {error}", "give the path of a text file") from None


def _sampling(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    generation = config.generation
    yield "temperature", generation.temperature
    yield "top_p", generation.top_p
    yield "top_k", generation.top_k if generation.top_k and generation.top_k > 0 else None
    yield "max_tokens", generation.max_new_tokens
    yield "stop", generation.stop_strings or []
    yield "stop_token_ids", generation.stop_token_ids or []
    yield "seed", config.eval.seed


def _serving(settings: Settings, engine: str) -> Iterator[tuple[str, Any]]:
    """Options that an engine has; those that only vLLM has are left out elsewhere, unless somebody set them."""
    generation = settings.config.generation
    vllm = generation.vllm_cfg
    if engine == "url":
        yield from _without_nothing({"url": generation.url, "api_key_variable": generation.api_key_env}).items()
    if generation.engine_arguments:
        yield "engine_arguments", generation.engine_arguments
    if generation.in_flight:
        yield "in_flight", generation.in_flight
    if engine in ("vllm", "sglang"):
        yield "tensor_parallel", vllm.tensor_parallel_size
        yield "pipeline_parallel", vllm.pipeline_parallel_size
        yield "gpu_memory_utilization", vllm.gpu_memory_utilization
        yield "max_model_len", vllm.max_model_len
        yield "dtype", vllm.precision
    elif "generation.vllm_cfg.precision" in settings.said and engine == "transformers":
        yield "dtype", vllm.precision
    if engine == "vllm":
        yield "enforce_eager", vllm.enforce_eager


def _template(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    tokenizer = config.tokenizer
    if tokenizer.chat_template not in (None, "default"):
        yield "chat_template", _template_text(str(tokenizer.chat_template))
    if tokenizer.chat_template_kwargs:
        yield "chat_template_kwargs", tokenizer.chat_template_kwargs


def _template_text(said: str) -> str:
    return _read(said, "tokenizer.chat_template") or "" if said.endswith(".jinja") else said


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
