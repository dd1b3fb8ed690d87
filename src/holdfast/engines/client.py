"""Asks one engine over HTTP, with bodies as small as the engine allows, and says in typed words what went wrong.

A connection for each request in flight (`holdfast.engines.wire`), no limit on them (the collection loop has the gate),
and msgspec for JSON: measured in `bench/results/evaluate.md` and `rollouts.md`.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.core.errors import ConfigError
from holdfast.engines import Capabilities, Engine
from holdfast.engines.completions import Completion, EngineError, Failure, Sampling
from holdfast.engines.url import Served, find_served
from holdfast.engines.wire import Answer, NotHttp, TooLarge, Wire

LARGEST = 64 * 2**20
"""Bytes of an answer that are read at most."""
HEALTH_TIMEOUT = 10.0
NEUTRAL = {"temperature": 1.0, "top_p": 1.0}
"""Values that say what a server does when nothing is said."""
FIXED = frozenset({"model", "prompt", "messages", "max_tokens", "max_completion_tokens"})

_UNKNOWN = re.compile(r"(?i)unknown|unrecogni[sz]ed|unexpected|unsupported|extra_forbidden|not permitted|not supported")
_QUOTED = re.compile(r"['\"`](\w+)['\"`]")
_CONTEXT = re.compile(r"(?i)context[ _]?(length|window)|max_model_len|maximum model length|prompt is too long")
_ENDED_BY_ENGINE = frozenset({"abort", "error"})


class Client:
    """One engine and one way of drawing tokens. Use it within the event loop that uses `wire`.

    `fields` go into every request (`Engine.request_fields`). `say` is told once of each field that had to be dropped.
    """

    def __init__(
        self,
        wire: Wire,
        model: str,
        fields: Mapping[str, Any],
        capabilities: Capabilities,
        *,
        key: str = "",
        stop: Sequence[str] = (),
        say: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        from holdfast.engines import answers

        self._read = answers.read
        self._encode = answers.encode
        self._wire = wire
        self._fields = {"model": model, **fields}
        self._capabilities = capabilities
        self._key = key
        self._stop = tuple(stop)
        self._say = say
        self._dropped: set[str] = set()
        self._revision = 0

    @property
    def sends_seeds(self) -> bool:
        """Whether a request's seed reaches the engine."""
        return "seed" in self._capabilities.fields and "seed" not in self._dropped

    @property
    def keeps_seeds(self) -> bool:
        """Whether a request's seed draws that response, and no other."""
        return self.sends_seeds and self._capabilities.seeds == "request"

    def complete(self, text: str, seed: int | None = None) -> Awaitable[Completion]:
        """Continue a text.

        Raises:
            EngineError: what went wrong, and whether another try could help.
        """
        return self._ask(self._capabilities.completions, {"prompt": text}, seed)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], seed: int | None = None, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Awaitable[Completion]:
        """Answer a chat, which may call `tools`.

        Raises:
            EngineError: what went wrong, and whether another try could help.
        """
        own = {"messages": messages, "tools": tools} if tools else {"messages": messages}
        return self._ask(self._capabilities.chat, own, seed)

    async def is_healthy(self) -> bool:
        """Whether the engine can be used: its health path answers, with anything below 500."""
        try:
            return (await self._wire.get(self._capabilities.health, HEALTH_TIMEOUT)).status < 500
        except (OSError, NotHttp, TooLarge):
            return False

    async def read_metrics(self) -> str | None:
        """What the engine says of its load, in Prometheus' text format; None where it says nothing."""
        if self._capabilities.metrics is None:
            return None
        try:
            answer = await self._wire.get(self._capabilities.metrics, HEALTH_TIMEOUT)
        except (OSError, NotHttp, TooLarge):
            return None
        return answer.content.decode("utf-8", "replace") if answer.status == 200 else None

    async def _ask(self, path: str, own: Mapping[str, Any], seed: int | None) -> Completion:
        while True:
            asked = self._revision
            try:
                answer = await self._wire.post(path, self._encoded, own, seed)
            except NotHttp as error:
                raise EngineError(Failure.MALFORMED, f"not HTTP: {_first_line(str(error))}") from error
            except TooLarge as error:
                raise EngineError(Failure.TOO_LARGE, str(error)) from error
            except OSError as error:
                raise EngineError(Failure.CONNECTION, _first_line(str(error)) or type(error).__name__) from error
            if answer.status == 200:
                return self._cut(self._complete(answer.content))
            text = self._blank(answer.content.decode("utf-8", "replace"))
            if not (answer.status in (400, 422) and self._adapt(self._body(own, seed), text, asked)):
                raise _refusal(answer, text)

    def _encoded(self, own: Mapping[str, Any], seed: int | None) -> bytes:
        return self._encode(self._body(own, seed))

    def _body(self, own: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
        """Made when it is sent, so that nobody holds it while he waits."""
        seeded = {"seed": seed} if seed is not None and self.sends_seeds else {}
        return {**self._fields, **own, **seeded}

    def _complete(self, content: bytes) -> Completion:
        completion = self._read(content)
        if completion.finish in _ENDED_BY_ENGINE:
            raise EngineError(Failure.SERVER, f"the engine ended the response itself: {completion.finish}")
        return completion

    def _cut(self, completion: Completion) -> Completion:
        """End the text where it was asked to end, whether the engine can do so or not."""
        ends = [at for at in (completion.text.find(each) for each in self._stop) if at >= 0]
        if not ends:
            return completion
        return Completion(completion.text[: min(ends)], "stop", completion.usage, completion.message)

    def _adapt(self, body: Mapping[str, Any], text: str, asked: int) -> bool:
        """Leave out what the engine says it does not know; whether asking again makes sense. `asked` is the revision of
        the fields that it says so of: others may have changed them since.

        Raises:
            EngineError: without that field responses would not be drawn as asked.
        """
        if not _UNKNOWN.search(text):
            return False
        if asked != self._revision:
            return True
        named = set(_QUOTED.findall(text))
        if "max_completion_tokens" in named and "max_tokens" in body:
            self._fields["max_completion_tokens"] = self._fields.pop("max_tokens")
            self._revision += 1
            return True
        found = sorted(named & body.keys() - FIXED)
        for name in found:
            self._drop(name, body[name])
        return bool(found)

    def _drop(self, name: str, value: Any) -> None:
        if name != "seed" and (name not in NEUTRAL or value != NEUTRAL[name]):
            says = f"the engine does not take {name}={value!r}, and without it responses are not what was asked"
            raise EngineError(Failure.REFUSED, says)
        if name not in self._dropped:
            self._dropped.add(name)
            self._fields.pop(name, None)
            self._revision += 1
            self._say(f"the engine does not take `{name}`: requests go without it from now on\n")

    def _blank(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


@contextlib.asynccontextmanager
async def connect(
    engine: Engine, model: Path, sampling: Sampling, url: str, say: Callable[[str], object] = sys.stderr.write
) -> AsyncIterator[tuple[Client, Served]]:
    """A client of `engine` at `url` (where its service answers; for an engine that was there before, its own base URL),
    and the model that it asks for.

    Raises:
        UserError: a key that is not set; no such model where one must be found by name.
    """
    base = base_url(engine.serving.url or url)
    key = _key(engine.serving.api_key_variable)
    async with _wire(base, key) as wire:
        name = engine.served_name(model)
        is_ours = name is not None and engine.serving.url is None
        served = Served(str(name), str(model)) if is_ours else await find_served(wire, name)
        fields = engine.request_fields(model, sampling)
        yield Client(wire, served.name, fields, engine.capabilities, key=key, stop=sampling.stop, say=say), served


def base_url(url: str) -> str:
    """Without the `/v1` that people put there, since paths carry it."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    if not (key := os.environ.get(variable, "")):
        raise ConfigError(f"the engine's key is to be in ${variable}, which is not set", f"export {variable}=...")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"the engine's key in ${variable} holds what no header can, a line's end perhaps", "set it anew"
        )
    return key


def _wire(base: str, key: str) -> Wire:
    """
    Raises:
        ConfigError: the address is none.
    """
    try:
        return Wire(base, {"Authorization": f"Bearer {key}"} if key else {}, LARGEST)
    except ValueError as error:
        raise ConfigError(
            f"the engine's address cannot be read: {base}: {error}", "add `url: http://HOST:PORT/v1`"
        ) from None


def _refusal(answer: Answer, text: str) -> EngineError:
    status, retry_after = answer.status, _seconds(answer.headers.get("retry-after"))
    says = f"{status}: {' '.join(text[:300].split())}"
    if where := answer.headers.get("location"):
        says += f" (moved to {where[:300]}: give that address)"
    if status == 429:
        return EngineError(Failure.RATE_LIMITED, says, retry_after)
    if status >= 500 or status in (408, 425):
        return EngineError(Failure.SERVER, says, retry_after)
    if status in (401, 403):
        return EngineError(Failure.UNAUTHORIZED, says)
    is_too_long = status in (400, 413, 422) and _CONTEXT.search(text)
    return EngineError(Failure.CONTEXT_LENGTH if is_too_long else Failure.REFUSED, says)


def _seconds(retry_after: str | None) -> float | None:
    """Seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    return None


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0][:300]
