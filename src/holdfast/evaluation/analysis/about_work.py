"""Sections of how the rollouts went: tool calls, correlations, lengths, breakdowns, throughput."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.evaluation.analysis.blocks import Block, Content, Drawing, Grid, Text, described, described_head
from holdfast.evaluation.analysis.words import between, count, number, percent, percent_between, plain, several


def tools(content: Content) -> Iterator[Block]:
    found = content["tools"]
    if not found:
        return
    rows = [
        ("mean", number(found["mean"])),
        ("median", number(found["median"])),
        ("min", count(found["min"])),
        ("max", count(found["max"])),
        ("standard deviation", number(found["sd"])),
        ("in all", count(found["sum"])),
        ("rollouts without any", count(found["without"])),
    ]
    yield Grid(("tool calls of a rollout", "value"), rows)
    yield Grid(described_head("tool calls"), [(_calls(each), *described(each)) for each in found["by_calls"]])
    yield Drawing("tools", "Mean reward by the number of tool calls, with 95% intervals")


def _calls(each: Mapping[str, Any]) -> str:
    return count(each["low"]) if each["low"] == each["high"] else f"{count(each['low'])} to {count(each['high'])}"


KINDS = {"pearson": "Pearson", "spearman": "Spearman", "within": "Pearson within prompts"}


def correlations(content: Content) -> Iterator[Block]:
    found = content["correlations"]
    if not found:
        return
    rows = [
        (
            each["x"],
            KINDS[each["kind"]],
            number(each["value"], "+"),
            between(each),
            count(each["n_rollouts"]),
            count(each["n_prompts"]),
        )
        for each in found
    ]
    yield Grid(("with the reward", "kind", "correlation", "95% interval", "rollouts", "prompts"), rows, words=2)
    yield Text(
        "Within prompts: of the deviations from each prompt's own means, so that hard prompts which take longer do not "
        "pass for a harm of length."
    )


def lengths(content: Content) -> Iterator[Block]:
    rows = [
        (
            name,
            *(number(each[key]) for key in ("mean", "median", "p95")),
            count(each["min"]),
            count(each["max"]),
            count(each["sum"]),
        )
        for name, each in content["lengths"].items()
    ]
    if rows:
        yield Grid(("of a rollout", "mean", "median", "95% below", "min", "max", "in all"), rows)
    if cut := content["cut"]:
        interval = f" (95% interval {percent_between(cut)})" if percent_between(cut) else ""
        yield Text(f"{percent(cut['value'])} of the responses ended at the limit of tokens{interval}.")
    if content["truncated"]:
        yield Text(f"{several(content['truncated'], 'rollout')} were truncated: at a limit of turns or of time.")
    if content["finishes"]:
        rows = [(plain(each["finish"]), *described(each)) for each in content["finishes"]]
        yield Grid(described_head("how it ended"), rows)


def breakdowns(content: Content) -> Iterator[Block]:
    for each in content["breakdowns"]:
        rows = [(plain(row["value"]) if row["value"] else "(not there)", *described(row)) for row in each["rows"]]
        yield Grid(described_head(plain(each["field"])), rows)
        if each["values"] > len(each["rows"]):
            yield Text(f"The {len(each['rows'])} most frequent of {count(each['values'])} values.")


def throughput(content: Content) -> Iterator[Block]:
    found = content["throughput"]
    if not found:
        return
    seconds = found["seconds"]
    rows = [
        ("rollouts an hour", count(round(found["rollouts_per_hour"]))),
        ("seconds with a rollout under way", count(round(found["busy"]))),
        ("rollouts at a time, mean", number(found["in_flight"])),
        ("seconds a rollout, mean", number(seconds["mean"])),
        ("seconds a rollout, median", number(seconds["median"])),
        ("seconds a rollout, 95% below", number(seconds["p95"])),
        ("seconds a rollout, max", number(seconds["max"])),
    ]
    if found["tokens_per_second"]:
        rows.insert(1, ("generated tokens a second", count(round(found["tokens_per_second"]))))
    yield Grid(("", "value"), rows)
