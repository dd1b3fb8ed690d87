"""Sections of what there is and what is missing: coverage, files, failures, tries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.evaluation.analysis.blocks import Block, Content, Grid, Text
from holdfast.evaluation.analysis.words import between, count, number, percent, plain


def coverage(content: Content) -> Iterator[Block]:
    found = content["coverage"]
    rows = [
        ("expected", count(found["expected"]), f"{count(found['prompts'])} prompts x {count(found['repeats'])}"),
        ("done", count(found["done"]), percent(found["done"] / found["expected"]) if found["expected"] else ""),
    ]
    if found["missing"]:
        rows += [
            ("missing", count(found["missing"]), ""),
            ("- failed", count(found["failed"]), "tried, no reward yet"),
            ("- given up", count(found["given_up"]), "of the failed, after three tries"),
            ("- never tried", count(found["never_tried"]), "or nothing was recorded of it"),
        ]
    rows.append(("prompts with all rollouts", count(found["complete_prompts"]), ""))
    rows.append(("prompts with some", count(found["partial_prompts"]), ""))
    rows.append(("prompts with none", count(found["empty_prompts"]), ""))
    yield Grid(("rollouts", "number", ""), rows)
    yield Text(f"How many are expected is known by {found['known_by']}.")
    if bounds := found["bounds"]:
        yield Text(_spell_bounds(bounds))


def _spell_bounds(bounds: Mapping[str, Any]) -> str:
    success = bounds["success"]
    says = f"If all that is missing failed, the success rate would be {percent(success['low'])}; if all succeeded, "
    says += percent(success["high"])
    if reward := bounds["reward"]:
        says += f". The mean reward would be {number(reward['low'])} or {number(reward['high'])}"
    return says + ". What is missing counts as nothing else below: the numbers are of what there is."


def files(content: Content) -> Iterator[Block]:
    rows = [
        (
            plain(each["file"]),
            each["format"] or "empty",
            count(each["bytes"]),
            count(each["rows"]),
            count(each["failures"]),
            count(each["bad_lines"]),
        )
        for each in content["sources"]
    ]
    yield Grid(("file", "format", "bytes", "rollouts", "failures", "bad lines"), rows, words=2)
    for each in content["sources"]:
        yield from (Text(says) for says in _complaints(each))
    found = content["coverage"]
    if found["duplicates"]:
        yield Text(f"Rows of a rollout that was there before: {count(found['duplicates'])}. The first counts.")
    if found["beyond"]:
        yield Text(f"Rows of repeats that nobody asked for: {count(found['beyond'])}. They do not count.")


def _complaints(source: Mapping[str, Any]) -> Iterator[str]:
    name = plain(source["file"])
    if source["torn"] is not None:
        yield f"{name}: line {source['torn']:,} is torn: its writer did not finish it. It does not count."
    for each in source["bad"]:
        yield f"{name}: line {each['line']:,} holds no rollout: {plain(each['why'], 200)}"
    if source["bad_lines"] > len(source["bad"]):
        yield f"{name}: {source['bad_lines'] - len(source['bad']):,} more lines hold no rollout."
    if source["rows"] and not source["has_repeats"]:
        yield f"{name}: its rows have no number of the repeat, so that rows that are there twice cannot be told."
    if source["says"]:
        told = ", ".join(f"{plain(key)} {plain(value)}" for key, value in source["says"].items())
        yield f"{name}: its first row says {told}."


def failures(content: Content) -> Iterator[Block]:
    found = content["failures"]
    if found["by_reason"]:
        rows = [
            (plain(each["reason"]), count(each["attempts"]), count(each["unresolved"])) for each in found["by_reason"]
        ]
        yield Grid(("reason", "failed tries", "rollouts still without a reward"), rows)
        yield Text("A failure of the machinery is never a reward of 0: it is owed again, and counts in no mean.")


def tries(content: Content) -> Iterator[Block]:
    found = content["tries"]
    if not found:
        return
    rows = []
    for name in ("reward", "success"):
        for which in ("first", "retried"):
            each = found[name][which]
            rows.append(
                (
                    name,
                    which,
                    count(found["rollouts"][which]),
                    count(each["n_prompts"]),
                    number(each["value"]),
                    between(each),
                )
            )
        if difference := found[name]["difference"]:
            cells = (number(difference["value"], "+"), between(difference))
            rows.append((name, "retried - first", "", count(difference["n_prompts"]), *cells))
    yield Grid(("", "", "rollouts", "prompts", "value", "95% interval"), rows, words=2)
    yield Text(
        "The difference is paired, on the prompts that have both. Where its interval holds no 0, what failed and was "
        "tried again is not like the rest, and retrying shifts what is measured."
    )
