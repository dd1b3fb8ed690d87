"""Sections of the rewards: overview, distribution, success, several tries, histogram, difficulty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.evaluation.analysis.blocks import Block, Content, Drawing, Grid, Text
from holdfast.evaluation.analysis.words import between, count, exact, number, percent, percent_between, plain, several


def overview(content: Content) -> Iterator[Block]:
    found = content["overview"]
    repeats = found["repeats"]
    spread = count(repeats["min"])
    if repeats["min"] != repeats["max"]:
        spread = f"{count(repeats['min'])} to {count(repeats['max'])}, median {count(repeats['median'])}"
    rows = [
        ("prompts", count(found["prompts"])),
        ("rollouts", count(found["rollouts"])),
        ("rollouts of a prompt", spread),
        ("rewards", "0 or 1" if found["is_binary"] else "real numbers"),
    ]
    said = {key: value for key, value in content["identity"].items() if value not in (None, "", [])}
    rows += [(plain(key), plain(value)) for key, value in said.items()]
    yield Grid(("", ""), rows, words=2)


def rewards(content: Content) -> Iterator[Block]:
    found = content["rewards"]
    mean = content["metrics"][0]
    rows = [
        ("min", number(found["min"])),
        ("max", number(found["max"])),
        ("mean", number(found["mean"])),
        ("median", number(found["median"])),
        ("standard deviation", number(found["sd"])),
        ("5% below", number(found["p5"])),
        ("25% below", number(found["p25"])),
        ("75% below", number(found["p75"])),
        ("95% below", number(found["p95"])),
    ]
    yield Grid(("reward", "value"), rows)
    interval = f", 95% interval {between(mean)}" if between(mean) else ""
    yield Text(
        f"Mean over prompts: {number(mean['value'])}{interval} ({several(mean['n_prompts'], 'prompt')}). "
        "Intervals take prompts as what was drawn: rollouts of one prompt are not independent of each other."
    )


def success(content: Content) -> Iterator[Block]:
    found, rate, overview = content["success"], content["metrics"][1], content["overview"]
    interval = f", 95% interval {percent_between(rate)}" if percent_between(rate) else ""
    yield Text(
        f"{count(found['rollouts'])} of {several(overview['rollouts'], 'rollout')} succeed: {percent(found['share'])}. "
        f"Mean over prompts: {percent(rate['value'])}{interval}. "
        f"{count(found['prompts_solved'])} of {several(overview['prompts'], 'prompt')} are solved at least once."
    )
    if found["by_field"] < overview["rollouts"]:
        rest = several(overview["rollouts"] - found["by_field"], "rollout")
        yield Text(f"{rest} have no field success: there a reward of 1 or more is one.")


def metrics(content: Content) -> Iterator[Block]:
    rows = [
        (each["name"], number(each["value"]), between(each), count(each["n_prompts"])) for each in content["metrics"]
    ]
    yield Grid(("metric", "value", "95% interval", "prompts"), rows)
    yield Text(
        "avg@n is the mean reward; pass@k that one of k succeeds, pass^k that all do; maj@k the reward of the most "
        "frequent answer; best@k the mean of the largest of k rewards. Each is the mean over all subsets of k, so that "
        "no order of the rollouts matters."
    )
    yield Drawing("success", "Share of prompts that k rollouts solve, with 95% bands")
    yield Drawing("best", "Reward that k rollouts of a prompt give, with 95% bands")


def histogram(content: Content) -> Iterator[Block]:
    found = content["histogram"]
    yield Drawing("histogram", "How often each reward came, and how many of them were successes")
    most = max(bar["count"] for bar in found["bars"])
    rows = [
        (_range(bar), count(bar["count"]), percent(bar["count"] / content["overview"]["rollouts"]), _strip(bar, most))
        for bar in found["bars"]
        if bar["count"]
    ]
    yield Grid(("reward", "rollouts", "share", ""), rows)
    if found["distinct"] > len(found["bars"]):
        common = ", ".join(f"{exact(each['reward'])} ({count(each['count'])})" for each in found["common"])
        yield Text(f"The most frequent of {count(found['distinct'])} exact rewards: {common}.")


def _range(bar: Mapping[str, Any]) -> str:
    if bar["low"] == bar["high"]:
        return exact(bar["low"])
    return f"{exact(bar['low'])} to {exact(bar['high'])}"


def _strip(bar: Mapping[str, Any], most: int) -> str:
    length: int = max(1, round(30 * bar["count"] / most))
    return "█" * length


def groups(content: Content) -> Iterator[Block]:
    rows = [
        (
            each["solved"],
            count(each["prompts"]),
            percent(each["share"]),
            count(each["rollouts"]),
            number(each["mean_reward"]),
            count(each["varies"]),
        )
        for each in content["difficulty"]
    ]
    yield Grid(("solved", "prompts", "share", "rollouts", "mean reward", "rewards differ"), rows)
    yield Drawing("difficulty", "How often prompts are solved")
    if groups := content["groups"]:
        yield Text(_spell_groups(groups))
    if variance := content["variance"]:
        yield Text(
            f"Variance of the reward: {number(variance['between'])} between prompts, {number(variance['within'])} "
            f"within them (intraclass correlation {number(variance['icc'])}). More repeats would take away "
            f"{percent(variance['from_repeats'])} of what the mean varies by, the rest only more prompts."
        )


def _spell_groups(groups: Mapping[str, Any]) -> str:
    interval = percent_between(groups["share"])
    signal = groups["rollouts_with_signal"] / groups["rollouts"]
    return (
        f"Groups whose rollouts all have one reward: {count(groups['zero_variance'])} of {count(groups['groups'])} "
        f"({percent(groups['share']['value'])}, 95% interval {interval}); in {count(groups['all_succeed'])} of them "
        f"all succeed, in {count(groups['all_fail'])} all fail. From those GRPO learns nothing, since every advantage "
        f"is 0; {percent(signal)} of the rollouts are in groups that teach. Groups in which some rollouts succeed and "
        f"some do not: {count(groups['success_differs'])}."
    )
