"""How a problem is put: the template, the choices, the chat."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from holdfast.core.errors import ConfigError
from holdfast.environments import Prompt

PLACE = "{problem}"
LETTERS = "ABCDEFGHIJ"
Format = Literal["chat", "raw"]


def fill(template: str, problem: str) -> str:
    """The template with the problem in it.

    `{problem}` is the place, and all else stays as it is: LaTeX is full of braces. A template without it is read as
    NeMo RL's prompt files are, where `{}` is the place and `{{`, `}}` are braces.

    Raises:
        ConfigError: there is no place for the problem.
    """
    if PLACE in template:
        return template.replace(PLACE, problem)
    if "{}" not in template.replace("{{}}", ""):
        raise ConfigError(f"the prompt has no place for the problem: {template[:80]!r}", f"write {PLACE} where it goes")
    return re.sub(r"{{|}}|{}", lambda found: {"{{": "{", "}}": "}"}.get(found[0], problem), template)


def put(
    prompt_id: str, problem: str | Sequence[Mapping[str, str]], template: str, system: str, style: Format
) -> Prompt:
    """The prompt of a problem: a text, or the messages of a chat, whose last one is the question."""
    before: list[Mapping[str, str]] = []
    if isinstance(problem, str):
        text = fill(template, problem)
    else:
        before, text = list(problem[:-1]), fill(template, problem[-1]["content"])
    if style == "raw":
        said = [message["content"] for message in before]
        return Prompt(prompt_id, "\n\n".join([*([system] if system else []), *said, text]))
    first = [{"role": "system", "content": system}] if system else []
    return Prompt(prompt_id, text, (*first, *before, {"role": "user", "content": text}))


def with_choices(problem: str, choices: Sequence[str]) -> str:
    """The problem, and below it the choices, A) to J)."""
    lines = [f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([problem, "", *lines])


def shuffled(problem: str, choices: Sequence[str]) -> tuple[list[str], str]:
    """The choices in an order that depends on the problem alone, and the letter of the one that was first."""
    order = sorted(range(len(choices)), key=lambda place: hashlib.sha256(f"{place}:{problem}".encode()).hexdigest())
    return [choices[place] for place in order], LETTERS[order.index(0)]


def list_choices(value: Any) -> list[str]:
    """The choices of a row: a list, a mapping from letters, or ARC's `{text: [...], label: [...]}`."""
    if isinstance(value, Mapping):
        value = value["text"] if "text" in value else [value[letter] for letter in sorted(value)]
    return [str(each) for each in value]
