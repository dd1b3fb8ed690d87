"""B against A on the prompts that both have: reward, success, and what k rollouts give, each paired by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.core.columns import align
from holdfast.evaluation.analysis.blocks import Content
from holdfast.evaluation.analysis.groups import Rollouts
from holdfast.evaluation.analysis.repeats import right_of_each
from holdfast.evaluation.analysis.summary import Analysis
from holdfast.evaluation.analysis.words import number, plain, several
from holdfast.evaluation.comparison import Difference, paired_difference
from holdfast.evaluation.subsets import best_at, pass_at

SCHEMA = 1
SURE = 0.05
EXTREMES = 10
"""Prompts that are named on either side."""


@dataclass(frozen=True)
class Side:
    name: str
    analysis: Analysis


def compare(a: Side, b: Side) -> dict[str, Any]:
    """`{schema, a, b, common, only_in_a, only_in_b, differs, metrics: [{name, a, b, value, low, high, p, ...}],
    changed}`; the values are B - A.

    Raises:
        ValueError: they have no prompt with a reward in common.
    """
    one, other = _by_id(a.analysis.rollouts), _by_id(b.analysis.rollouts)
    common = [prompt for prompt in one if prompt in other]
    if not common:
        raise ValueError("no prompt is in both")
    metrics = [_metric(name, *pair) for name, pair in _values(one, other, common).items()]
    return {
        "schema": SCHEMA,
        "a": _describe(a),
        "b": _describe(b),
        "common": len(common),
        "only_in_a": len(one) - len(common),
        "only_in_b": len(other) - len(common),
        "differs": _differences(a.analysis.content, b.analysis.content),
        "metrics": metrics,
        "changed": _changed(one, other, common),
    }


@dataclass(frozen=True)
class Responses:
    """Of one prompt."""

    rewards: Sequence[float]
    right: int

    @property
    def mean(self) -> float:
        return sum(self.rewards) / len(self.rewards)


def _by_id(rollouts: Rollouts) -> dict[str, Responses]:
    import numpy

    ends = numpy.cumsum(rollouts.counts).tolist()
    right = right_of_each(rollouts).tolist()
    rewards = rollouts.reward.tolist()
    starts = [0, *ends[:-1]]
    rows = zip(rollouts.ids, starts, ends, right, strict=True)
    return {prompt: Responses(rewards[start:end], solved) for prompt, start, end, solved in rows if end > start}


Pair = tuple[dict[str, float], dict[str, float], bool]


def _values(one: Mapping[str, Responses], other: Mapping[str, Responses], common: Sequence[str]) -> dict[str, Pair]:
    """For each metric its value of each prompt in A and in B, and whether each is one response, right or wrong."""
    sides = ({each: one[each] for each in common}, {each: other[each] for each in common})
    single = all(len(each.rewards) == 1 for side in sides for each in side.values())
    binary = all(reward in (0, 1) for side in sides for each in side.values() for reward in each.rewards)
    found: dict[str, Pair] = {
        "reward": (*_of(sides, lambda each: each.mean), single and binary),
        "success": (*_of(sides, lambda each: each.right / len(each.rewards)), single),
    }
    repeats = min(len(each.rewards) for side in sides for each in side.values())
    for k in (each for each in (2, 4, 8, 16, 32, 64, 128) if each <= repeats):
        found[f"pass@{k}"] = (*_of(sides, lambda each, k=k: pass_at(k, each.right, len(each.rewards))), False)
        if not binary:
            found[f"best@{k}"] = (*_of(sides, lambda each, k=k: best_at(k, each.rewards)), False)
    return found


def _of(sides: tuple[Mapping[str, Responses], ...], value: Any) -> tuple[dict[str, float], dict[str, float]]:
    before, after = ({prompt: float(value(each)) for prompt, each in side.items()} for side in sides)
    return before, after


def _metric(name: str, before: Mapping[str, float], after: Mapping[str, float], trials: bool) -> dict[str, Any]:
    difference = paired_difference(before, after, trials=trials)
    means = {"a": sum(before.values()) / len(before), "b": sum(after.values()) / len(after)}
    return {"name": name, **means, **difference._asdict(), "verdict": _verdict(difference)}


def _verdict(found: Difference) -> str:
    if found.p >= SURE or found.low <= 0 <= found.high:
        return "none"
    return "higher" if found.value > 0 else "lower"


def _describe(side: Side) -> dict[str, Any]:
    content = side.analysis.content
    coverage = content["coverage"]
    return {
        "name": side.name,
        "done": coverage["done"],
        "expected": coverage["expected"],
        "formats": sorted({each["format"] for each in content["sources"] if each["format"]}),
    }


def _differences(a: Content, b: Content) -> dict[str, list[Any]]:
    """What the two say of themselves, and not alike: identity, and the first rows of foreign files."""
    one, other = _said(a), _said(b)
    keys = [*one, *(key for key in other if key not in one)]
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key)}


def _said(content: Content) -> dict[str, Any]:
    found = dict(content["identity"])
    for source in content["sources"]:
        found |= source["says"]
    return found


def _changed(
    one: Mapping[str, Responses], other: Mapping[str, Responses], common: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The prompts whose mean reward changed most, either way."""
    rows: list[dict[str, Any]] = [{"prompt": each, "a": one[each].mean, "b": other[each].mean} for each in common]
    rows.sort(key=lambda row: row["b"] - row["a"])
    worse = [row for row in rows[:EXTREMES] if row["b"] < row["a"]]
    return {"worse": worse, "better": [row for row in rows[: -EXTREMES - 1 : -1] if row["b"] > row["a"]]}


def lines(found: Content) -> list[str]:
    """The comparison for a terminal."""
    a, b = plain(found["a"]["name"]), plain(found["b"]["name"])
    rows = [("", "A", "B", "B - A", "95% interval", "p", "prompts")]
    for each in found["metrics"]:
        values = (number(each["a"]), number(each["b"]), number(each["value"], "+"))
        interval = f"{number(each['low'], '+')} to {number(each['high'], '+')}"
        rows.append((each["name"], *values, interval, f"{each['p']:.2g}", str(each["n_prompts"])))
    return [f"A  {a}", f"B  {b}", "", *align(rows), "", _words(found), *_extremes(found)]


def _words(found: Content) -> str:
    reward = found["metrics"][0]
    prompts = several(reward["n_prompts"], "prompt")
    if reward["verdict"] == "none":
        seen = number(reward["detectable"])
        return f"no difference of the reward is shown on {prompts}; {seen} would have been seen 4 times of 5"
    return f"the reward of B is {reward['verdict']} by {number(abs(reward['value']))} on {prompts}"


def _extremes(found: Content) -> list[str]:
    told = []
    for word in ("better", "worse"):
        if rows := found["changed"][word][:3]:
            each = (f"{plain(row['prompt'])} ({number(row['a'])} to {number(row['b'])})" for row in rows)
            told.append(f"{word} most: {', '.join(each)}")
    return told


def notes(found: Content) -> list[str]:
    """What a person must know beside the numbers."""
    differs = found["differs"].items()
    told = [f"they differ in {plain(key)}: {plain(one)} and {plain(other)}" for key, (one, other) in differs]
    if found["only_in_a"] or found["only_in_b"]:
        alone = f"{found['only_in_a']:,} prompts are only in A, {found['only_in_b']:,} only in B"
        told.append(f"{alone}: they do not count")
    partial = [side for side in ("a", "b") if found[side]["done"] < found[side]["expected"]]
    told += [f"{each.upper()} is not whole: {_share(found[each])}" for each in partial]
    return told


def _share(side: Content) -> str:
    return f"{side['done']:,} of {side['expected']:,} rollouts"
