"""What a list shows of a row, taken from its line without decoding the rest: our rows, NeMo Gym's, the document's.

A line whose fields have the expected types is decoded in a few microseconds; any other goes a slower way that takes of
it what it can. msgspec is loaded with this module, so it is imported late.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from holdfast.rollouts.collection import SCHEMA

UNKNOWN = -1
MOST = 2**31 - 1
LONGEST_ID = 512
NAN = float("nan")


class Head(NamedTuple):
    """The scalars of a row. `repeat`, `success`, `steps`, `tools`, `tokens` and `truncated` are -1 where nobody said,
    `reward`, `seconds` and `finished` NaN. `length` is that of the response as JSON, in bytes.
    """

    prompt: str
    repeat: int
    reward: float
    success: int
    steps: int
    tools: int
    tokens: int
    length: int
    failure: str
    truncated: int
    seconds: float
    finished: float


class _Usage(Struct):
    completion_tokens: int | None = None
    output_tokens: int | None = None


class _Timing(Struct):
    started: float | None = None
    finished: float | None = None


class _Error(Struct):
    type: str | None = None


class _Line(Struct):
    schema: int | None = None
    id: str | int | None = None
    prompt_id: str | int | None = None
    game_id: str | int | None = None
    task: str | int | None = field(default=None, name="_ng_task_index")
    repeat: int | None = None
    rollout: int | None = field(default=None, name="_ng_rollout_index")
    reward: float | None = None
    success: bool | float | None = None
    num_steps: int | None = None
    tool_calls: int | list[Raw] | None = None
    usage: _Usage | None = None
    timing: _Timing | None = None
    error: _Error | str | None = None
    type: str | None = None
    number: int | None = None
    finished: float | None = None
    failure: str | None = field(default=None, name="_ng_failure_class")
    finish: str | None = None
    truncated: bool | None = None
    prompt: Raw | UnsetType = UNSET
    response: Raw | UnsetType = UNSET
    responses_create_params: Raw | UnsetType = UNSET


class _Prompt(Struct):
    id: str | int | None = None
    prompt_id: str | int | None = None
    game_id: str | int | None = None


class _Item(Struct):
    type: str | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    output: list[_Item] | None = None
    usage: _Usage | None = None
    finish_reason: str | None = None
    incomplete_details: _Incomplete | None = None


_line = msgspec.json.Decoder(_Line)
_prompt = msgspec.json.Decoder(_Prompt)
_response = msgspec.json.Decoder(_Response)
_NO_RESPONSE = _Response()


def read_head(line: bytes) -> Head | None:
    """The scalars of the row in a line; None where the line is no row, or one of a later version."""
    try:
        found = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lenient = _read_leniently(line)
        if lenient is None:
            return None
        found = lenient
    if found.schema is not None and found.schema > SCHEMA:
        return None
    return _summarise(found)


def _read_leniently(line: bytes) -> _Line | None:
    """A line with fields of other types than ours: each is taken where it makes sense."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    found = _Line()
    for each in msgspec.structs.fields(_Line):
        value = content.get(each.encode_name)
        if value is None:
            continue
        try:
            is_raw = each.default is UNSET
            setattr(
                found, each.name, Raw(_encode(value)) if is_raw else msgspec.convert(value, each.type, strict=False)
            )
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            continue
    return found


def _encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def _summarise(line: _Line) -> Head:
    response = _response_of(line)
    usage = line.usage or response.usage or _Usage()
    timing = line.timing or _Timing()
    finish = line.finish or response.finish_reason or (response.incomplete_details or _Incomplete()).reason
    began, finished = timing.started, timing.finished if timing.finished is not None else line.finished
    return Head(
        prompt=_bounded(prompt_id(line)),
        repeat=_count(line.repeat if line.repeat is not None else line.rollout),
        reward=line.reward if line.reward is not None and math.isfinite(line.reward) else NAN,
        success=UNKNOWN if line.success is None else int(line.success >= 1),
        steps=_count(line.num_steps),
        tools=_tools(line, response),
        tokens=_count(usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens),
        length=min(len(memoryview(line.response)), MOST) if line.response is not UNSET else 0,
        failure=_failure(line),
        truncated=int(line.truncated or finish in ("length", "max_output_tokens"))
        if line.truncated is not None or finish
        else UNKNOWN,
        seconds=finished - began if began is not None and finished is not None else NAN,
        finished=NAN if finished is None else finished,
    )


def _bounded(text: str) -> str:
    """Ids stay what they are, unless nobody can have meant them."""
    if len(text) <= LONGEST_ID:
        return text
    return f"{text[:LONGEST_ID]}#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _count(number: int | None) -> int:
    return UNKNOWN if number is None or number < 0 else min(number, MOST)


def _response_of(line: _Line) -> _Response:
    """What NeMo Gym's response says of itself; ours is a text, or has said it in the row."""
    if line.tool_calls is not None or line.response is UNSET or bytes(memoryview(line.response)[:1]) != b"{":
        return _NO_RESPONSE
    try:
        return _response.decode(line.response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NO_RESPONSE


def _tools(line: _Line, response: _Response) -> int:
    if isinstance(line.tool_calls, int):
        return _count(line.tool_calls)
    if line.tool_calls is not None:
        return len(line.tool_calls)
    if response.output is None:
        return UNKNOWN
    return sum(item.type == "function_call" for item in response.output)


def _failure(line: _Line) -> str:
    """The type of a failure, empty where there is none. A line of our `failures.jsonl` has it as `type`."""
    if isinstance(line.error, str):
        return line.error[:100] or "error"
    if line.error is not None:
        return (line.error.type or "error")[:100]
    if line.failure is None and line.number is not None and line.reward is None and line.response is UNSET:
        return (line.type or "")[:100]
    return (line.failure or "")[:100]


def prompt_id(line: _Line) -> str:
    """`id`, `prompt_id`, NeMo Gym's task, `game_id`, of the row or of its prompt; otherwise a hash of the prompt."""
    for given in (line.id, line.prompt_id, line.task, line.game_id):
        if given is not None:
            return str(given)
    content = line.prompt if line.prompt is not UNSET else line.responses_create_params
    if content is UNSET:
        return ""
    try:
        inside = _prompt.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        inside = _Prompt()
    for given in (inside.id, inside.prompt_id, inside.game_id):
        if given is not None:
            return str(given)
    return hashlib.sha256(content).hexdigest()[:16]
