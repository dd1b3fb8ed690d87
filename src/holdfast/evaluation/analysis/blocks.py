"""What a report is made of, before anybody says whether it is Markdown or HTML: paragraphs, tables, figures.

Every text in a block is plain: who renders it escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.evaluation.analysis.words import between, count, number, percent, percent_between

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    words: str


@dataclass(frozen=True)
class Grid:
    """A table; the first `words` columns are text, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


@dataclass(frozen=True)
class Drawing:
    """A figure, by its name in `figures.draw`."""

    name: str
    says: str


Block = Text | Grid | Drawing


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def described_head(first: str) -> tuple[str, ...]:
    return (first, "rollouts", "share", "prompts", "mean reward", "95% interval", "success", "95% interval")


def described(each: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of what `breakdown.describe` found."""
    return (
        count(each["rollouts"]),
        percent(each["share"]),
        count(each["prompts"]),
        number(each["reward"]["value"]),
        between(each["reward"]),
        percent(each["success"]["value"]),
        percent_between(each["success"]),
    )
