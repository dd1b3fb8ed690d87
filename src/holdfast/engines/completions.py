"""Prompts to completions over the OpenAI-compatible `/v1/completions`, with only the fields that every engine
accepts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

BUSY = (408, 425, 429)
"""Refusals that another try may not meet."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; temperature 0 is greedy."""

    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class Completion:
    """The text, without the prompt and without special tokens. `finish` is `stop` or `length`."""

    text: str
    finish: str
    usage: dict[str, int] = field(default_factory=dict)


class EngineError(Exception):
    """No completion: `kind` is one of timeout, connection, refused, server, malformed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def worth_another_try(self) -> bool:
        return self.kind in ("timeout", "connection", "server")


class CompletionsClient:
    """Asks one engine. Use it within the event loop that made `session`; `extra` are fields that this engine needs."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        sampling: Sampling,
        extra: Mapping[str, Any],
    ) -> None:
        self._session = session
        self._url = f"{url}/v1/completions"
        self._fields = {
            "model": model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            **extra,
        }

    async def complete(self, prompt: str, seed: int | None = None) -> Completion:
        """One completion. What a `seed` means is the engine's own affair.

        Raises:
            EngineError: what went wrong, and whether another try could help.
        """
        import aiohttp

        body = {**self._fields, "prompt": prompt} | ({} if seed is None else {"seed": seed})
        try:
            async with self._session.post(self._url, json=body) as response:
                text = await response.text()
        except aiohttp.ClientError as error:
            raise EngineError("connection", str(error) or type(error).__name__) from error
        if response.status != 200:
            is_refusal = 400 <= response.status < 500 and response.status not in BUSY
            raise EngineError("refused" if is_refusal else "server", f"{response.status}: {text[:300]}")
        return _parse(text)


def _parse(text: str) -> Completion:
    try:
        content = json.loads(text)
        choice = content["choices"][0]
        return Completion(str(choice["text"]), choice["finish_reason"], dict(content.get("usage") or {}))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise EngineError("malformed", f"not a completion ({error!r}): {text[:200]}") from error
