"""What is asked of an engine and what comes back: how tokens are drawn, a completion, or a typed failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; temperature 0 is greedy. A `top_k` of None, 0 or -1 keeps all tokens.

    `stop` are texts at which a response ends (they are not part of it), `stop_token_ids` tokens beside the model's own.
    `chat_template_kwargs` is what the engine gives the model's chat template, where it is asked for chats.
    """

    temperature: float
    top_p: float
    max_tokens: int
    top_k: int | None = None
    min_p: float | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """The fields that say something: what is off is left out, so that it never changes a key or a request."""
        always = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return always | self.optional()

    def optional(self) -> dict[str, Any]:
        """Those of `given` that not every engine has."""
        found: dict[str, Any] = {}
        if self.top_k is not None and self.top_k > 0:
            found["top_k"] = self.top_k
        if self.min_p:
            found["min_p"] = self.min_p
        if self.stop:
            found["stop"] = list(self.stop)
        if self.stop_token_ids:
            found["stop_token_ids"] = list(self.stop_token_ids)
        if self.chat_template_kwargs:
            found["chat_template_kwargs"] = dict(self.chat_template_kwargs)
        return found


@dataclass(frozen=True, slots=True)
class Completion:
    """The text, without the prompt and without special tokens. `finish` is `stop`, `length` or the engine's own word;
    `usage` counts tokens; `message` is what a chat answered, whole.
    """

    text: str
    finish: str
    usage: Mapping[str, int] = field(default_factory=dict)
    message: Mapping[str, Any] | None = None


class Failure(StrEnum):
    """Why there is no completion, or no reward for one. These words stand in rows: they never change."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    REFUSED = "refused"
    UNAUTHORIZED = "unauthorized"
    CONTEXT_LENGTH = "context_length"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    ENGINE_DOWN = "engine_down"
    STALLED = "stalled"
    SCORER_TIMEOUT = "scorer_timeout"
    SCORER_ERROR = "scorer_error"
    ENV_ERROR = "env_error"
    ENV_TIMEOUT = "env_timeout"
    OUTPUT_LENGTH = "output_length"
    BAD_TOOL_JSON = "bad_tool_json"
    UNKNOWN_TOOL = "unknown_tool"
    TURN_LIMIT = "turn_limit"
    KILLED = "killed"
    CANCELLED = "cancelled"


PASSING = frozenset({Failure.TIMEOUT, Failure.CONNECTION, Failure.SERVER, Failure.RATE_LIMITED, Failure.MALFORMED})
"""Failures that another try may not meet."""
DOWN = frozenset({Failure.CONNECTION, Failure.SERVER})
"""Failures that make one ask whether the engine is there at all."""


class EngineError(Exception):
    """No completion. `retry_after` is how long the engine asked to be left alone, in seconds."""

    def __init__(self, kind: Failure, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after

    @property
    def worth_another_try(self) -> bool:
        return self.kind in PASSING
