"""Rollouts that other programs wrote: whose each is, and what of a prompt set they leave to be done.

A row belongs to a prompt by what identifies the prompt (`id`, `prompt_id`, `game_id`, otherwise its contents), never by
where it stands in a file: with several in flight, files are in the order of completion.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import files, near
from holdfast.core.errors import UserError
from holdfast.core.stage import canonical
from holdfast.environments.prompt_set import ID_FIELDS, PromptSet, digest_of_row
from holdfast.environments.responses import chat_messages
from holdfast.rollouts.collection import SCHEMA, Sample

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of a file of rollouts: its number, where it begins, and its row; or what is wrong with it."""

    number: int
    offset: int
    row: Row | None
    problem: str = ""


@dataclass(frozen=True)
class Remaining:
    """What a prompt set still lacks. `missing` is by prompt; `problems` names lines that count for nothing, `strangers`
    is how many rows are of no prompt of the set, `surplus` how many a prompt has beyond what is wanted.
    """

    wanted: int
    done: int
    missing: Mapping[str, int]
    problems: tuple[str, ...]
    strangers: int
    surplus: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "wanted": self.wanted,
            "done": self.done,
            "owed": self.wanted - self.done,
            "prompts": [{"id": each, "owed": count} for each, count in self.missing.items()],
            "problems": list(self.problems),
            "strangers": self.strangers,
            "surplus": dict(self.surplus),
        }


def read_lines(path: Path) -> Iterator[Line]:
    """Every line that holds something.

    Raises:
        UserError: the file is not there.
    """
    try:
        with open(path, "rb") as lines:
            offset = 0
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(line, number, offset)
                offset += len(line)
    except OSError as error:
        close = near.path(path)
        raise UserError(
            f"rollouts cannot be read: {path.absolute()}: {error.strerror}", f"did you mean `{close}`?" if close else ""
        ) from None


def _read_line(line: bytes, number: int, offset: int) -> Line:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = "is not JSON" if line.endswith(b"\n") else "is torn"
        says = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return Line(number, offset, None, f"line {number} {what}: {says}")
    if not isinstance(row, dict):
        return Line(number, offset, None, f"line {number} is a JSON {type(row).__name__}, expected an object")
    return Line(number, offset, row)


def has_reward(row: Row) -> bool:
    """Whether a row is a rollout that is done, and no record of a failure."""
    reward = row.get("reward")
    is_number = isinstance(reward, int | float) and reward == reward
    return is_number and "error" not in row and not row.get("_ng_failure_class")


def prompt_id(row: Row) -> str | None:
    """Whose a row is; None where nothing tells."""
    if isinstance(row.get("id"), str) and "repeat" in row:
        return str(row["id"])
    prompt = row.get("prompt")
    if isinstance(prompt, Mapping):
        return _named(prompt) or digest_of_row(prompt)
    return _named(row) or asked_digest(row) or (digest_of_row({"prompt": prompt}) if isinstance(prompt, str) else None)


def asked_digest(row: Row) -> str | None:
    """Of what NeMo Gym asked the model: rows have it, and so have the prompts."""
    asked = row.get("responses_create_params")
    if not isinstance(asked, Mapping) or not asked.get("input"):
        return None
    return hashlib.blake2b(canonical(asked["input"]), digest_size=8).hexdigest()


def _named(row: Row) -> str | None:
    values = (row.get(name) for name in ID_FIELDS)
    found = (each for each in values if isinstance(each, str | int) and not isinstance(each, bool) and each != "")
    name = next(found, None)
    return None if name is None else str(name)


def remaining(prompts: Path, rollouts: Path, repeats: int) -> Remaining:
    """What `repeats` rollouts of each prompt lack.

    Raises:
        UserError: a file is not there, or a line of the prompts cannot be read.
    """
    wanted = PromptSet(prompts)
    aliases = _aliases(wanted)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    strangers = 0
    for line in read_lines(rollouts):
        if line.row is None:
            problems.append(f"{line.problem} ({rollouts})")
        elif has_reward(line.row):
            name = prompt_id(line.row)
            known = aliases.get(name or "")
            counts[known or ""] += known is not None
            strangers += known is None
    missing = {each: repeats - counts[each] for each in wanted.ids if counts[each] < repeats}
    surplus = {each: counts[each] - repeats for each in wanted.ids if counts[each] > repeats}
    done = sum(min(counts[each], repeats) for each in wanted.ids)
    return Remaining(len(wanted.ids) * repeats, done, missing, tuple(problems), strangers, surplus)


def _aliases(prompts: PromptSet) -> dict[str, str]:
    """What a row may call a prompt: its id, or what was asked, where only one prompt asks it."""
    found = {each: each for each in prompts.ids}
    asked: dict[str, list[str]] = {}
    for each in prompts.ids:
        if digest := asked_digest(prompts.row(each)):
            asked.setdefault(digest, []).append(each)
    return {digest: each[0] for digest, each in asked.items() if len(each) == 1} | found


def write_remaining(found: Remaining, prompts: Path, out: Path, *, each: bool) -> int:
    """Write the prompts that lack something, as they are in the set and in its order; with `each`, one line for every
    rollout that is missing. Returns the number of lines.
    """
    names = iter(PromptSet(prompts).ids)
    chosen: list[bytes] = []
    with open(prompts, "rb") as lines:
        for line in lines:
            if line.strip():
                times = found.missing.get(next(names), 0)
                chosen += [line.rstrip(b"\r\n")] * (times if each else min(times, 1))
    files.replace(out, b"".join(line + b"\n" for line in chosen))
    return len(chosen)


def lines(found: Remaining, most: int = 20) -> list[str]:
    """For a person."""
    said = [f"{found.done:,} of {found.wanted:,} rollouts done, {found.wanted - found.done:,} owed"]
    said += [f"{len(found.missing):,} prompts lack some"] if found.missing else []
    said += [f"  {problem}" for problem in found.problems[:most]]
    if found.strangers:
        said.append(f"{found.strangers:,} rows are of no prompt of this set")
    if found.surplus:
        said.append(f"{len(found.surplus):,} prompts have more than is wanted, such as {next(iter(found.surplus))!r}")
    return said


def sample_of(row: Row, name: str, seen: Counter[str]) -> Sample:
    """Which rollout of its prompt a row is: as it says, otherwise by its place among those of the prompt."""
    for field in ("repeat", "_ng_rollout_index"):
        value = row.get(field)
        if isinstance(value, int) and value >= 0:
            return Sample(name, value)
    seen[name] += 1
    return Sample(name, seen[name] - 1)


def as_ours(row: Row, sample: Sample) -> dict[str, Any]:
    """The row with the fields of ours; a row of ours stays as it is. What it does not say is left out."""
    if row.get("schema") == SCHEMA and "turns" in row:
        return dict(row)
    prompt, response = _prompt(row), row.get("response")
    messages = _messages(prompt, response)
    calls = sum(len(each.get("tool_calls") or ()) for each in messages)
    success = row.get("success")
    usage = _usage(row)
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "id": sample.id,
        "repeat": sample.repeat,
        "seed": row.get("seed"),
        "prompt": prompt,
        "response": response,
        "reward": float(row["reward"]),
        "success": success if isinstance(success, bool) else row["reward"] >= 1.0,
        "num_steps": row.get("num_steps", calls),
        "tool_calls": calls,
        "usage": usage,
        "tries": 1,
        "attempt": 0,
        "terminated": bool(row.get("terminated", True)),
        "truncated": bool(row.get("truncated", False)),
        "info": row.get("info") if isinstance(row.get("info"), Mapping) else {},
    }
    if finish := row.get("finish") or (response.get("finish_reason") if isinstance(response, Mapping) else None):
        made["finish"] = finish
    if isinstance(row.get("answer"), str):
        made["answer"] = row["answer"]
    if any(each["role"] == "assistant" for each in messages):
        made |= {"messages": messages, "turns": _turns(messages, made)}
    return made


def _prompt(row: Row) -> Any:
    """What was asked: a field of its own, or with NeMo Gym all that is not the answer."""
    if "prompt" in row:
        return row["prompt"]
    answered = {"response", "reward", "success", "terminated", "truncated", "info", "num_steps"}
    return {name: value for name, value in row.items() if name not in answered and not name.startswith("_ng_")}


def _messages(prompt: Any, response: Any) -> list[dict[str, Any]]:
    asked = prompt.get("responses_create_params") if isinstance(prompt, Mapping) else None
    given = asked.get("input") if isinstance(asked, Mapping) else prompt if isinstance(prompt, str) else None
    said = response.get("output") if isinstance(response, Mapping) else None
    try:
        before = chat_messages(given) if given else []
        if isinstance(response, str):
            return [*before, {"role": "assistant", "content": response}]
        return [*before, *chat_messages(said)] if isinstance(said, list) else []
    except (UserError, KeyError, TypeError, AttributeError):
        return []  # of another shape: the rollout counts, its messages are what `response` says


def _turns(messages: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A turn for each message of the model; who knows only the sum has it at the end."""
    said = [each for each in messages if each["role"] == "assistant"]
    turns: list[dict[str, Any]] = [
        {"reward": 0.0, "info": {}, "usage": {}, "finish": "stop", "actions": len(each.get("tool_calls") or ())}
        for each in said
    ]
    turns[-1] |= {"reward": made["reward"], "finish": made.get("finish", "stop"), "usage": made["usage"]}
    return turns


def _usage(row: Row) -> dict[str, int]:
    response = row.get("response")
    found = row.get("usage") or (response.get("usage") if isinstance(response, Mapping) else None)
    if not isinstance(found, Mapping):
        return {}
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    counts = {names.get(str(name), str(name)): value for name, value in found.items()}
    return {name: value for name, value in counts.items() if isinstance(value, int) and not isinstance(value, bool)}
