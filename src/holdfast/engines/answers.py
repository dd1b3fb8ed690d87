"""Reads and writes the JSON of the OpenAI-compatible API. msgspec comes with this module, so it is imported late."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.engines.completions import Completion, EngineError, Failure


class _Choice(msgspec.Struct):
    finish_reason: str
    text: str | None = None
    message: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Body)
encode = msgspec.json.Encoder().encode


def read(content: bytes) -> Completion:
    """A completion from the body of an answer, of either endpoint.

    Raises:
        EngineError: the body is cut off, is something else, or says that the engine failed.
    """
    try:
        body = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineError(Failure.MALFORMED, f"not a completion ({error}): {_start(content)}") from error
    if body.error is not None:
        raise EngineError(Failure.SERVER, f"an error with status 200: {str(body.error)[:300]}")
    if len(body.choices) != 1:
        raise EngineError(Failure.MALFORMED, f"{len(body.choices)} choices, expected 1: {_start(content)}")
    usage = {name: count for name, count in (body.usage or {}).items() if isinstance(count, int)}
    return _completion(body.choices[0], usage, content)


def _completion(choice: _Choice, usage: dict[str, int], content: bytes) -> Completion:
    if choice.text is not None:
        return Completion(choice.text, choice.finish_reason, usage)
    said = None if choice.message is None else choice.message.get("content", "")
    if choice.message is None or not (said is None or isinstance(said, str)):
        raise EngineError(Failure.MALFORMED, f"neither a text nor a message: {_start(content)}")
    return Completion(said or "", choice.finish_reason, usage, choice.message)


def _start(content: bytes) -> str:
    return " ".join(content[:200].decode("utf-8", "replace").split())
