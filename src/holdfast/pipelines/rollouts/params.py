"""From a config to the params of a `rollouts` stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.engines import options_of
from holdfast.pipelines.models import usual_engine
from holdfast.pipelines.rollouts.settings import RolloutConfig, Settings

ONLY_SOME: tuple[str, ...] = (
    "gpu_memory_utilization",
    "max_model_len",
    "dtype",
    "tool_call_parser",
    "reasoning_parser",
)
ONLY_SOME += ("tensor_parallel", "pipeline_parallel", "enforce_eager")
"""Options that go by the same name in a config and in the params, and that not every engine has."""


def engine_of(settings: Settings, *, gpus: int | None, on_cluster: bool) -> str:
    """The engine that was named, otherwise the usual one."""
    engine = settings.config.engine
    if engine.name or engine.url:
        return engine.name or "url"
    wanted = gpus if gpus is not None else settings.config.cluster.gpus_per_node
    return usual_engine(wanted, on_cluster=on_cluster)


def params(settings: Settings, engine: str) -> dict[str, Any]:
    """All but the model, which may be an input."""
    found = settings.config
    name = found.environment.name
    assert name is not None
    return {
        "environment": name,
        "settings": found.environment.settings,
        "repeats": found.repeats,
        "engine": engine,
        **({"prompts": str(settings.prompts)} if settings.prompts else {}),
        **dict(_bounds(found)),
        **dict(_without_nothing(found.sampling.model_dump(mode="json"))),
        **dict(_serving(settings, engine)),
        **dict(_collecting(found)),
    }


def _bounds(found: RolloutConfig) -> Iterator[tuple[str, Any]]:
    said = found.rollout
    limits = {"turns": said.turns, "tool_calls": said.tool_calls, "rollout_tokens": said.tokens}
    yield from _without_nothing(limits)
    yield "bad_turns", said.bad_turns
    yield "step_deadline", said.step_deadline
    yield "turn_deadline", said.turn_deadline
    yield "rollout_deadline", said.deadline


def _serving(settings: Settings, engine: str) -> Iterator[tuple[str, Any]]:
    """Options of the engine. A config that was written for another engine than the one that was typed may have more."""
    said = settings.config.engine
    options = {
        "url": said.url,
        "api_key_variable": said.api_key_env,
        "served_name": said.served_name,
        "gpu_memory_utilization": said.gpu_memory_utilization,
        "max_model_len": said.max_model_len,
        "dtype": said.dtype,
        "tool_call_parser": said.tool_call_parser,
        "reasoning_parser": said.reasoning_parser,
        "tensor_parallel": said.tensor_parallel,
        "pipeline_parallel": said.pipeline_parallel,
        "enforce_eager": said.enforce_eager,
        "engine_arguments": said.arguments,
        "engine_timeout": said.ready_within,
    }
    other = set(left_out(settings, engine))
    yield from _without_nothing({name: value for name, value in options.items() if name not in other})
    if said.port is not None and engine != "url":
        yield "port", said.port


def left_out(settings: Settings, engine: str) -> list[str]:
    """Options of the config that the engine does not have, where that is not the engine that the config was for."""
    if not {"engine.name", "engine.url"} & settings.typed:
        return []
    has = options_of(engine)
    written = {key.removeprefix("engine.") for key in settings.said - settings.typed if key.startswith("engine.")}
    return sorted(name for name in written & set(ONLY_SOME) if name not in has)


def _collecting(found: RolloutConfig) -> Iterator[tuple[str, Any]]:
    said = found.collection
    if said.in_flight is None:
        yield "follows_engine", True
    else:
        yield "in_flight", said.in_flight
    yield "most_in_flight", said.most_in_flight
    yield "attempts", said.attempts
    yield "accept_missing", said.accept_missing
    yield "durability", said.durability
    yield "deadline", said.call_deadline
    yield "tries", said.tries
    yield "patience", said.patience
    yield "stall", said.stall


def _without_nothing(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in values.items() if value is not None)
