"""The figures of a report, as SVG by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.evaluation.analysis import plot
from holdfast.evaluation.analysis.plot import Curve
from holdfast.evaluation.analysis.words import exact

Content = Mapping[str, Any]


def draw(content: Content) -> dict[str, str]:
    """Those for which there is something to draw: histogram, difficulty, tools, success, best."""
    if "rewards" not in content:
        return {}
    found = {"histogram": _histogram(content), "difficulty": _difficulty(content)}
    if content["tools"] and len(content["tools"]["by_calls"]) > 1:
        found["tools"] = _tools(content)
    if curves := _curves(content, {"pass@": "pass@k", "pass^": "pass^k"}, "success@1"):
        found["success"] = plot.lines("Share of prompts that k rollouts solve", curves, "k rollouts of a prompt")
    if curves := _curves(content, {"best@": "best@k", "maj@": "maj@k"}, content["metrics"][0]["name"]):
        found["best"] = plot.lines("Reward that k rollouts give", curves, "k rollouts of a prompt")
    return found


def _histogram(content: Content) -> str:
    bars = content["histogram"]["bars"]
    counts, right = [bar["count"] for bar in bars], [bar["success"] for bar in bars]
    labels = [exact(bar["low"]) for bar in bars]
    below = "reward" if content["histogram"]["distinct"] <= len(bars) else "reward, from"
    return plot.bars("Rewards", labels, counts, right, ("rollouts", "of them successes"), below)


def _difficulty(content: Content) -> str:
    bands = content["difficulty"]
    counts, varies = [band["prompts"] for band in bands], [band["varies"] for band in bands]
    labels = [band["solved"] for band in bands]
    names = ("prompts", "of them with rewards that differ")
    return plot.bars("How often prompts are solved", labels, counts, varies, names, "share of rollouts that succeed")


def _tools(content: Content) -> str:
    rows = content["tools"]["by_calls"]
    labels = [str(row["low"]) if row["low"] == row["high"] else f"{row['low']}-{row['high']}" for row in rows]
    return plot.points(
        "Mean reward by tool calls, 95% intervals", labels, Curve("", _dots(rows)), "tool calls of a rollout"
    )


def _dots(rows: Sequence[Content]) -> list[tuple[float, float, float | None, float | None]]:
    found = [row["reward"] for row in rows]
    return [(float(place), each["value"], each["low"], each["high"]) for place, each in enumerate(found)]


def _curves(content: Content, kinds: Mapping[str, str], start: str) -> list[Curve]:
    """Of the metrics of these kinds; with one rollout all of them are what `start` is."""
    metrics = content["metrics"]
    first = next(each for each in metrics if each["name"] == start)
    curves = []
    for prefix, name in kinds.items():
        found = [each for each in metrics if each["name"].startswith(prefix) and each["k"] > 1]
        if found:
            curves.append(Curve(name, [_point(first, 1), *(_point(each, each["k"]) for each in found)]))
    return curves


def _point(metric: Content, k: int) -> tuple[float, float, float | None, float | None]:
    return (float(k), metric["value"], metric["low"], metric["high"])
