"""Engines: prompts to completions over an OpenAI-compatible HTTP API.

    transformers   `transformers serve`: needs nothing but transformers, on a CPU or a GPU
    vllm           `vllm serve`
    sglang         `python -m sglang.launch_server`
    url            one that is already there
    fake           a deterministic stand-in, which can also misbehave

Yours is `package.module:Class`, derived from `Engine`, and needs no registration. An engine here is a description: the
service to start, what a request to it may carry, and what of its promises is real. `holdfast.engines.client` asks it.

Over several nodes there is one engine per node, each asked for its own slice of what is owed: one address per engine,
no load balancer, and a node that dies takes its own requests with it and no others. An engine that spans nodes, for a
model that fits on none, is started by whoever owns those nodes, and is used as `url`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from holdfast.core.errors import ConfigError
from holdfast.core.plugins import load_class
from holdfast.core.schema import validate
from holdfast.core.service import Service
from holdfast.engines.completions import Sampling
from holdfast.engines.serving import Serving

SHIPPED = {
    "transformers": "holdfast.engines.transformers_serve:TransformersServe",
    "vllm": "holdfast.engines.vllm:Vllm",
    "sglang": "holdfast.engines.sglang:Sglang",
    "url": "holdfast.engines.url:Url",
    "fake": "holdfast.engines.fake:Fake",
}


EVERY_FIELD = frozenset({"top_k", "min_p", "seed", "stop", "stop_token_ids", "chat_template_kwargs"})
"""What a request may carry beside what each engine takes."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine takes and keeps.

    `fields`: what a request may carry beside model, prompt, temperature, top_p and max_tokens. `seeds`: what a
    request's seed does: draws that response (`request`), or seeds the whole server (`server`). `health` answers below
    500 while the engine can be used; `metrics` is in Prometheus' format. `tools`: whether a chat may carry tools, and
    calls come back as such; `parser` where the server must be told how the model writes them.
    """

    fields: frozenset[str]
    seeds: Literal["request", "server"] = "request"
    completions: str = "/v1/completions"
    chat: str = "/v1/chat/completions"
    health: str = "/health"
    metrics: str | None = "/metrics"
    tools: Literal["yes", "parser", "no"] = "yes"


class Engine(ABC):
    """`options` are the names of `Serving` that this engine can honour; another one that is set is a mistake."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    options: ClassVar[frozenset[str]]
    counts_tokens: ClassVar[bool] = False
    """Whether `service` needs to know what requests hold: only then are a data set's rows read where it is planned."""

    def __init__(self, serving: Serving) -> None:
        """
        Raises:
            ConfigError: an option that this engine does not have.
        """
        for option in sorted(serving.chosen() - self.options):
            has = [name for name in SHIPPED if option in options_of(name)]
            raise ConfigError(
                f"engine {self.name} has no {option}, given {getattr(serving, option)!r}",
                f"leave it out, or take engine {' or '.join(has)}",
            )
        self.serving = serving

    @abstractmethod
    def service(self, model: Path, tokens: int) -> Service | None:
        """The server of the model directory `model`; None where it is already there. `tokens` is the most that all
        requests in flight hold together.

        Raises:
            UserError: it cannot serve that directory.
        """

    def served_name(self, model: Path) -> str | None:
        """What the model is called in requests; None: whatever the server says it serves."""
        return model.name

    def check_chats(self, model: Path) -> None:  # noqa: B027  # most engines do as the model does
        """
        Raises:
            UserError: this engine would not answer chats with this model as the model does.
        """

    def check_tools(self) -> None:
        """
        Raises:
            ConfigError: requests to this engine cannot carry tools.
        """
        has = self.capabilities.tools
        if has == "no":
            raise ConfigError(
                f"engine {self.name} takes no tools, and the environment has some",
                "take an environment, or an `interface` of it, that reads tags in a text; or engine vllm",
            )
        if has == "parser" and self.serving.tool_call_parser is None:
            raise ConfigError(
                f"engine {self.name} must know how the model writes tool calls: tool_call_parser is None",
                "add `tool_call_parser: hermes` (for Qwen models), or whichever is the model's",
            )

    def request_fields(self, model: Path, sampling: Sampling) -> dict[str, Any]:
        """What every request carries, beside the model's name, the prompt and a seed.

        Raises:
            ConfigError: a way of drawing tokens that this engine does not have.
        """
        fields = sampling.given()
        if "stop" in fields and "stop" not in self.capabilities.fields:
            del fields["stop"]  # the client cuts the text where the engine cannot
        for name in sampling.optional().keys() & fields.keys() - self.capabilities.fields:
            raise ConfigError(
                f"engine {self.name} takes no {name}, given {fields[name]!r}",
                f"leave {name} out, or take another engine",
            )
        return fields


def load_engine(name: str, serving: Serving | Mapping[str, Any] | None = None) -> Engine:
    """The engine of this name with these options.

    Raises:
        ConfigError: no such engine, or an option that it does not have.
    """
    found: type[Engine] = load_class(name, SHIPPED, Engine, "engine")  # type: ignore[type-abstract]
    return found(serving if isinstance(serving, Serving) else validate(Serving, serving or {}, f"engine {name}"))


def options_of(name: str) -> frozenset[str]:
    """The names of `Serving` that an engine can honour.

    Raises:
        ConfigError: there is no such engine.
    """
    found: type[Engine] = load_class(name, SHIPPED, Engine, "engine")  # type: ignore[type-abstract]
    return found.options
