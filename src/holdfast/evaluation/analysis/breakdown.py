"""Rewards by the values of a field, by how rollouts ended, and by how many tools they called."""

from __future__ import annotations

from typing import Any

from holdfast.evaluation.analysis.groups import Array, Rollouts
from holdfast.evaluation.analysis.repeats import mean_of

SHOWN = 50
"""Values of a field that are shown, the most frequent ones."""
BARS = 15
"""Numbers of tool calls that get a row each; more are put together."""


def by_field(rollouts: Rollouts, name: str) -> dict[str, Any]:
    """Reward and success for each value of a field, the most frequent first."""
    import numpy

    values, numbers = rollouts.by[name]
    often = numpy.bincount(numbers, minlength=len(values))
    order = sorted(
        (number for number in range(len(values)) if often[number]), key=lambda each: (-often[each], values[each])
    )
    rows = [{"value": values[number], **describe(rollouts, numbers == number)} for number in order[:SHOWN]]
    return {"field": name, "values": len(order), "rows": rows}


def by_finish(rollouts: Rollouts) -> list[dict[str, Any]]:
    """For each word by which responses ended; empty where nobody said."""
    import numpy

    often = numpy.bincount(rollouts.finish + 1, minlength=len(rollouts.finishes) + 1)
    if not often[1:].any():
        return []
    names = ["not said", *rollouts.finishes]
    order = sorted((place for place in range(len(names)) if often[place]), key=lambda each: (-often[each], names[each]))
    return [{"finish": names[place], **describe(rollouts, rollouts.finish == place - 1)} for place in order[:SHOWN]]


def by_tool_calls(rollouts: Rollouts) -> list[dict[str, Any]]:
    """For each number of tool calls, or ranges of them; rollouts whose calls nobody counted are left out."""
    found = []
    for low, high in _ranges(rollouts.tools[rollouts.tools >= 0]):
        inside = (rollouts.tools >= low) & (rollouts.tools <= high)
        found.append({"low": low, "high": high, **describe(rollouts, inside)})
    return found


def _ranges(calls: Array) -> list[tuple[int, int]]:
    """Each number by itself if they are few; otherwise ranges of about equally many rollouts."""
    import numpy

    distinct, often = numpy.unique(calls, return_counts=True)
    if len(distinct) <= BARS:
        return [(int(each), int(each)) for each in distinct]
    shares = (numpy.cumsum(often) - often / 2) / often.sum()
    bins = numpy.minimum((shares * BARS).astype(int), BARS - 1)
    inside = [distinct[bins == each] for each in range(BARS)]
    return [(int(each[0]), int(each[-1])) for each in inside if len(each)]


def describe(rollouts: Rollouts, chosen: Array) -> dict[str, Any]:
    """How many rollouts, of how many prompts, and their reward and success with intervals."""
    reward, success = mean_of(rollouts, rollouts.reward, chosen), mean_of(rollouts, rollouts.success, chosen)
    count = int(chosen.sum())
    return {
        "rollouts": count,
        "share": count / len(rollouts),
        "prompts": reward.n_prompts,
        "reward": reward.as_json(),
        "success": success.as_json(),
    }
