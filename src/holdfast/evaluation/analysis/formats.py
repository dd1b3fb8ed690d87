"""Which program wrote a file of rollouts, and where its rows keep what we need. Of a line only that is decoded.

    holdfast   {id, repeat, reward | error, usage, timing, tool_calls, ...}: parts of a collection, what was published
    nemo-gym   {_ng_task_index, _ng_rollout_index, reward, response: {output, usage}, ...} of NeMo Gym's collector
               (NVIDIA-NeMo/Gym 07d6b0d07, nemo_gym/rollout_collection.py); its older rows have no index
    document   {prompt: {game_id, ...}, response: {output}, reward, success, num_steps}

A prompt without an id is known by the digest of its contents, a row without a repeat by its place among those of its
prompt. msgspec is loaded with this module, so it is imported late.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from holdfast.rollouts.collection import SCHEMA

TOOL_CALL = "function_call"
CUT = "length"
LARGEST = 1e100
"""A reward beyond it is a mistake of who wrote it; sums of squares of three million smaller ones are still numbers."""
CUT_WORDS = frozenset({"length", "max_output_tokens", "max_tokens"})
"""What engines say of a response that ended at the limit of tokens."""


class Format(StrEnum):
    """Who wrote a file."""

    HOLDFAST = "holdfast"
    NEMO_GYM = "nemo-gym"
    DOCUMENT = "document"


class Usage(msgspec.Struct):
    """Tokens, by the names of either API of OpenAI."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Timing(msgspec.Struct):
    started: float | None = None
    finished: float | None = None


class Error(msgspec.Struct):
    type: str = "unknown"


class Item(msgspec.Struct):
    type: str = ""


class Nothing(msgspec.Struct):
    """Something that is counted and not read."""


class Incomplete(msgspec.Struct):
    reason: str | None = None


UNKNOWN_USAGE = Usage()


class Response(msgspec.Struct):
    output: list[Item] | None = None
    finish_reason: str | None = None
    incomplete_details: Incomplete | None = None
    usage: Usage | None = None


class Prompt(msgspec.Struct):
    id: str | int | None = None
    prompt_id: str | int | None = None
    game_id: str | int | None = None


class Row(msgspec.Struct):
    """What all have. `answer` stays as it is written: equal answers are equal bytes."""

    reward: float | None = None
    success: bool | None = None
    num_steps: int | None = None
    truncated: bool | None = None
    finish: str | None = None
    tries: int | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    error: Error | None = None
    answer: str | None = None
    turns: list[Nothing] | None = None


class HoldfastRow(Row, kw_only=True):
    """`type` is that of a line of failures.jsonl, `{id, repeat, number, attempt, type, message}`."""

    id: str
    repeat: int
    schema: int = SCHEMA
    tool_calls: int | None = None
    type: str | None = None


class ForeignRow(Row):
    response: Response | str | None = None


class NemoRow(ForeignRow, kw_only=True):
    task: int = msgspec.field(name="_ng_task_index")
    rollout: int = msgspec.field(name="_ng_rollout_index")
    attempt: int | None = msgspec.field(name="_ng_attempt_index", default=None)
    failure: str | None = msgspec.field(name="_ng_failure_class", default=None)


class DocumentRow(ForeignRow, kw_only=True):
    prompt: Prompt


class NamelessRow(ForeignRow):
    """A row whose prompt is known by what it says: of the document, or of NeMo Gym before it had indices."""

    prompt: msgspec.Raw = msgspec.Raw()
    responses_create_params: msgspec.Raw = msgspec.Raw()


class Layout(NamedTuple):
    """A format, and the struct that its rows are decoded to."""

    format: Format
    row: type[Row]

    @property
    def has_repeats(self) -> bool:
        return self.row in (HoldfastRow, NemoRow)


def recognise(row: Mapping[str, Any]) -> Layout | None:
    """By one whole row; None of one that is nobody's."""
    if isinstance(row.get("id"), str) and "repeat" in row:
        return Layout(Format.HOLDFAST, HoldfastRow)
    if "_ng_task_index" in row and "_ng_rollout_index" in row:
        return Layout(Format.NEMO_GYM, NemoRow)
    if "reward" not in row and "error" not in row:
        return None
    prompt = row.get("prompt")
    if isinstance(prompt, dict) and any(prompt.get(name) is not None for name in ("id", "prompt_id", "game_id")):
        return Layout(Format.DOCUMENT, DocumentRow)
    if prompt is not None:
        return Layout(Format.DOCUMENT, NamelessRow)
    return Layout(Format.NEMO_GYM, NamelessRow) if "responses_create_params" in row else None


def prompt_ids(rows: Sequence[Any], layout: Layout) -> list[str]:
    """Whose each row is.

    Raises:
        ValueError: one has no prompt at all.
    """
    if layout.row is HoldfastRow:
        return [row.id for row in rows]
    if layout.row is NemoRow:
        return [str(row.task) for row in rows]
    return [_prompt_id(row) for row in rows]


def _prompt_id(row: DocumentRow | NamelessRow) -> str:
    if isinstance(row, DocumentRow):
        given = (row.prompt.id, row.prompt.prompt_id, row.prompt.game_id)
        found = next((each for each in given if each is not None), None)
        if found is None:
            raise ValueError("its prompt has no id, prompt_id or game_id")
        return str(found)
    said = bytes(row.prompt) or bytes(row.responses_create_params)
    if not said:
        raise ValueError("it has neither a prompt nor responses_create_params")
    return hashlib.blake2b(said, digest_size=6).hexdigest()


def repeats(rows: Sequence[Any], layout: Layout) -> list[int] | None:
    """None where the format does not number them."""
    if layout.row is HoldfastRow:
        return [row.repeat for row in rows]
    return [row.rollout for row in rows] if layout.row is NemoRow else None


def tool_calls(rows: Sequence[Any]) -> list[int | None]:
    """How often the model called a tool; None where nobody can know."""
    if rows and isinstance(rows[0], HoldfastRow):
        return [row.tool_calls for row in rows]
    return [_count_calls(row.response) for row in rows]


def _count_calls(response: Response | str | None) -> int | None:
    output = response.output if isinstance(response, Response) else None
    return None if output is None else sum(item.type == TOOL_CALL for item in output)


def finishes(rows: Sequence[Any]) -> list[str | None]:
    """How each response ended, in its engine's own words."""
    if rows and isinstance(rows[0], HoldfastRow):
        return [row.finish for row in rows]
    return [row.finish or _response_finish(row.response) for row in rows]


def _response_finish(response: Response | str | None) -> str | None:
    if not isinstance(response, Response):
        return None
    return response.finish_reason or (response.incomplete_details.reason if response.incomplete_details else None)


def usages(rows: Sequence[Any]) -> list[Usage]:
    """Tokens, of the row or of its response."""
    if rows and isinstance(rows[0], HoldfastRow):
        return [row.usage or UNKNOWN_USAGE for row in rows]
    return [row.usage or (isinstance(row.response, Response) and row.response.usage) or UNKNOWN_USAGE for row in rows]


def tries(rows: Sequence[Any]) -> list[int | None]:
    """How often each rollout was begun, the time that went well included."""
    if rows and isinstance(rows[0], NemoRow):
        return [None if row.attempt is None else row.attempt + 1 for row in rows]
    return [row.tries for row in rows]


def failure(row: Any) -> str | None:
    """Why there is no reward; None of a row that has one."""
    if row.error is not None:
        return str(row.error.type)
    if isinstance(row, HoldfastRow):
        return row.type if row.reward is None else None
    return row.failure if isinstance(row, NemoRow) else None


def are_sound(rows: Sequence[Any], layout: Layout) -> bool:
    """Whether `problem` has nothing to say of any, and all have a reward."""
    rewards = [row.reward for row in rows]
    if not rewards or None in rewards or not -LARGEST < min(rewards) <= max(rewards) < LARGEST:
        return False
    if min(repeats(rows, layout) or [0]) < 0:
        return False
    return layout.row is not HoldfastRow or max([row.schema for row in rows]) <= SCHEMA


def problem(row: Any) -> str | None:
    """Why a row that was decoded does not count; None of a sound one."""
    if isinstance(row, HoldfastRow) and row.schema > SCHEMA:
        return f"schema {row.schema} of a later version, this one reads up to {SCHEMA}"
    if isinstance(row, HoldfastRow | NemoRow) and (row.repeat if isinstance(row, HoldfastRow) else row.rollout) < 0:
        return "a repeat below 0"
    if row.reward is None:
        return None if failure(row) is not None else "neither a reward nor an error"
    return None if -LARGEST < row.reward < LARGEST else f"a reward of {row.reward:g}"


def mend(line: bytes, layout: Layout) -> Row:
    """A line that does not fit the struct, read with patience: what is optional and of another type is left out.

    Raises:
        ValueError: what has no row in it, and why.
    """
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"a JSON {type(content).__name__}, no object")
    reward = content.get("reward")
    if isinstance(reward, bool):
        content["reward"] = float(reward)
    elif reward is not None and not isinstance(reward, int | float):
        raise ValueError(f"a reward that is no number: {shorten(reward)}")
    if isinstance(content.get("error"), str):
        content["error"] = {"type": content["error"]}
    return _convert(content, layout.row)


def _convert(content: dict[str, Any], row: type[Row]) -> Row:
    """As much of it as fits."""
    needed = {field.encode_name for field in msgspec.structs.fields(row) if field.required} | {"reward"}
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(row):
        if field.encode_name not in content:
            continue
        value = content[field.encode_name]
        try:
            fields[field.name] = _convert_value(value, field.type)
        except (msgspec.ValidationError, OverflowError) as error:
            if field.encode_name in needed:
                raise ValueError(f"{field.encode_name} is {shorten(value)}: {error}") from None
        except RecursionError:
            raise ValueError("nested too deeply") from None
    missing = sorted(needed - {"reward"} - content.keys())
    if missing:
        raise ValueError(f"no {missing[0]}")
    return row(**fields)


def _convert_value(value: Any, wanted: Any) -> Any:
    if wanted is msgspec.Raw:
        return msgspec.Raw(json.dumps(value, sort_keys=True).encode())
    return msgspec.convert(value, wanted)


def shorten(value: object) -> str:
    """A value as one says it in a sentence."""
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        said = f"a {type(value).__name__} beyond all bounds"
    return said if len(said) <= 40 else f"{said[:39]}…"
