"""What each prompt gave: the breakdown by prompt, how hard prompts are, and from which of them one could learn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.evaluation.analysis.groups import Array, Rollouts
from holdfast.evaluation.analysis.repeats import right_of_each
from holdfast.evaluation.intervals import mean_interval

COLUMNS: tuple[str, ...] = ("prompt", "rollouts", "mean_reward", "min_reward", "max_reward", "sd_reward")
COLUMNS += ("success_rate", "mean_tool_calls", "mean_completion_tokens", "cut_short")
BANDS = (("never", 0.0), ("up to 1/4", 0.25), ("up to 1/2", 0.5), ("up to 3/4", 0.75), ("more, not always", 1.0))
SAME = 1e-9
"""Rewards of a group that differ by less, relative to the largest, are equal: what summing in another order leaves."""


@dataclass(frozen=True)
class Prompts:
    """Arrays over the prompts that have a rollout. Means of what nobody said are NaN."""

    ids: list[str]
    counts: Array
    mean: Array
    lowest: Array
    highest: Array
    deviation: Array
    solved: Array
    tools: Array
    tokens: Array
    cut: Array

    @property
    def varies(self) -> Array:
        """Whether the rewards of each differ."""
        import numpy

        return self.highest - self.lowest > SAME * numpy.maximum(abs(self.highest), abs(self.lowest))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """One for each prompt, as `COLUMNS`; None where nothing is known."""
        columns = (self.mean, self.lowest, self.highest, self.deviation, self.solved, self.tools, self.tokens, self.cut)
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        for prompt, count, row in zip(self.ids, self.counts.tolist(), numbers, strict=True):
            yield (prompt, count, *(None if value != value else value for value in row))


def by_prompt(rollouts: Rollouts) -> Prompts:
    """Of rollouts that are sorted by prompt; some there must be."""
    import numpy

    counts = rollouts.counts
    present = numpy.flatnonzero(counts)
    starts = (numpy.cumsum(counts) - counts)[present]
    counts = counts[present]
    _, mean = rollouts.means(rollouts.reward)
    spread = numpy.repeat(mean, counts)
    numpy.subtract(rollouts.reward, spread, out=spread)
    numpy.square(spread, out=spread)
    variance = numpy.add.reduceat(spread, starts) / numpy.maximum(counts - 1, 1)
    ids = [rollouts.ids[place] for place in present.tolist()]
    return Prompts(
        ids=ids,
        counts=counts,
        mean=mean,
        lowest=numpy.minimum.reduceat(rollouts.reward, starts),
        highest=numpy.maximum.reduceat(rollouts.reward, starts),
        deviation=numpy.where(counts > 1, numpy.sqrt(variance), numpy.nan),
        solved=right_of_each(rollouts)[present] / counts,
        tools=_known_mean(rollouts, rollouts.tools, present),
        tokens=_known_mean(rollouts, rollouts.completion_tokens, present),
        cut=rollouts.means(rollouts.cut)[1],
    )


def _known_mean(rollouts: Rollouts, values: Array, present: Array) -> Array:
    import numpy

    found = numpy.full(len(rollouts.ids), numpy.nan)
    known = values >= 0
    prompts, means = rollouts.means(values, None if known.all() else known)
    found[prompts] = means
    return found[present]


def natural(text: str) -> tuple[Any, ...]:
    """The key by which `p2` comes before `p10`."""
    parts = re.split(r"(\d{1,18})", text)
    return tuple((int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts))


def difficulty(prompts: Prompts) -> list[dict[str, Any]]:
    """How many prompts are solved how often, and how many of them have rewards that differ."""
    import numpy

    found, below = [], -1.0
    for name, upto in BANDS:
        inside = (prompts.solved > below) & ((prompts.solved <= upto) if upto < 1 else (prompts.solved < 1))
        found.append(_band(name, inside, prompts))
        below = upto
    found.append(_band("always", prompts.solved == 1, prompts))
    assert sum(band["prompts"] for band in found) == len(prompts.ids)
    return [{**band, "share": float(band["prompts"] / numpy.maximum(len(prompts.ids), 1))} for band in found]


def _band(name: str, inside: Array, prompts: Prompts) -> dict[str, Any]:
    count = int(inside.sum())
    return {
        "solved": name,
        "prompts": count,
        "rollouts": int(prompts.counts[inside].sum()),
        "mean_reward": float(prompts.mean[inside].mean()) if count else None,
        "varies": int((inside & prompts.varies).sum()),
    }


def learnable(prompts: Prompts) -> dict[str, Any] | None:
    """The groups (prompts with two or more rollouts) whose rewards differ: in the others every advantage of GRPO is 0
    (Shao et al., DeepSeekMath, arXiv:2402.03300, section 4.1.2), and nothing is learned from them. None without groups.
    """
    groups = prompts.counts > 1
    count = int(groups.sum())
    if not count:
        return None
    flat = groups & ~prompts.varies
    share = mean_interval(flat[groups].astype(float).tolist(), trials=True)
    return {
        "groups": count,
        "zero_variance": int(flat.sum()),
        "share": share.as_json(),
        "all_succeed": int((flat & (prompts.solved == 1)).sum()),
        "all_fail": int((flat & (prompts.solved == 0)).sum()),
        "success_differs": int((groups & (prompts.solved > 0) & (prompts.solved < 1)).sum()),
        "rollouts_with_signal": int(prompts.counts[groups & prompts.varies].sum()),
        "rollouts": int(prompts.counts[groups].sum()),
    }
