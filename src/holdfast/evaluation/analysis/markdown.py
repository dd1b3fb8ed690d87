"""The content as `reward_analysis.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.evaluation.analysis.blocks import Block, Drawing, Grid, Section, Text
from holdfast.evaluation.analysis.prompts import Prompts, natural
from holdfast.evaluation.analysis.sections import sections
from holdfast.evaluation.analysis.words import cell, count, number, paragraph, percent, several

ALL = 500
"""Prompts up to which every one is listed."""
ENDS = 50
"""Of more prompts: so many of the worst, and of the best."""
HEAD = ("prompt", "rollouts", "mean reward", "min", "max", "deviation", "success", "tool calls", "tokens", "cut short")


def render(content: Mapping[str, Any], prompts: Prompts | None, drawings: Mapping[str, str], table: str) -> str:
    """The report. `drawings` are links to figures by name, `table` the link to what every prompt gave."""
    lines = ["# Reward analysis", ""]
    if prompts is None:
        lines += ["There is no rollout with a reward yet.", ""]
    for section in sections(content):
        lines += _section(section, drawings)
    if prompts is not None:
        lines += _section(by_prompt(prompts, table), drawings)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, drawings: Mapping[str, str]) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    for block in section.blocks:
        yield from _block(block, drawings)


def _block(block: Block, drawings: Mapping[str, str]) -> Iterator[str]:
    if isinstance(block, Grid):
        yield "| " + " | ".join(map(_cell, block.head)) + " |"
        yield "|" + "|".join("---" if place < block.words else "--:" for place in range(len(block.head))) + "|"
        yield from ("| " + " | ".join(map(_cell, row)) + " |" for row in block.rows)
    elif isinstance(block, Drawing):
        if block.name not in drawings:
            return
        yield f"![{block.says}]({drawings[block.name]})"
    else:
        yield paragraph(block.words)
    yield ""


def _cell(text: str) -> str:
    return cell(text) if text else ""


def by_prompt(prompts: Prompts, table: str) -> Section:
    """A row for each prompt; of many prompts the worst and the best."""
    rows = list(prompts.rows()) if len(prompts.ids) <= ALL else _ends(prompts)
    blocks: list[Block] = []
    if len(rows) < len(prompts.ids):
        total = several(len(prompts.ids), "prompt")
        blocks.append(Text(f"The {ENDS} lowest and the {ENDS} highest of {total}; all of them are in {table}."))
    else:
        rows.sort(key=lambda row: natural(row[0]))
    blocks.append(Grid(HEAD, [_cells(row) for row in rows]))
    return Section("Per-prompt performance breakdown", blocks)


def _ends(prompts: Prompts) -> list[tuple[Any, ...]]:
    """By mean reward, and where that is equal in the order in which they came."""
    import numpy

    order = numpy.argsort(prompts.mean, kind="stable")
    chosen = dict.fromkeys([*order[:ENDS].tolist(), *order[-ENDS:].tolist()])
    rows = {place: row for place, row in enumerate(prompts.rows()) if place in chosen}
    return [rows[place] for place in chosen]


def _cells(row: Sequence[Any]) -> tuple[str, ...]:
    prompt, rollouts, mean, low, high, deviation, solved, tools, tokens, cut = row
    numbers = (number(each) for each in (mean, low, high, deviation))
    return (prompt, count(rollouts), *numbers, percent(solved), number(tools), number(tokens), percent(cut))
