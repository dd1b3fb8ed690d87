"""What there is of what was wanted, what failed and why, and whether rollouts that needed a second try differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.evaluation.analysis.groups import Rollouts
from holdfast.evaluation.analysis.reading import Source, Table
from holdfast.evaluation.analysis.repeats import mean_of
from holdfast.evaluation.comparison import paired_difference

GIVEN_UP_AFTER = 3
"""Failures of one rollout, after which nobody tries again."""


@dataclass(frozen=True)
class Expected:
    """How much was wanted; None is not known. `said_by` says who knows."""

    prompts: int | None = None
    repeats: int | None = None
    said_by: str = ""


def cover(rollouts: Rollouts, failures: Failures, expected: Expected) -> dict[str, Any]:
    """`expected` rollouts, `done` of them, and of the missing ones how many failed, were given up, were never tried."""
    counts = rollouts.counts
    prompts = max(expected.prompts or 0, 0) or len(rollouts.ids)
    repeats = expected.repeats or int(counts.max(initial=0))
    wanted, done = prompts * repeats, len(rollouts)
    missing = max(0, wanted - done)
    failed = min(missing, failures.unresolved)
    return {
        "prompts": prompts,
        "repeats": repeats,
        "expected": wanted,
        "known_by": expected.said_by or "the rows themselves: nobody said how many were wanted",
        "done": done,
        "missing": missing,
        "failed": failed,
        "given_up": min(failed, failures.given_up),
        "never_tried": missing - failed,
        "complete_prompts": int((counts >= repeats).sum()) if repeats else 0,
        "partial_prompts": int(((counts > 0) & (counts < repeats)).sum()),
        "empty_prompts": max(0, prompts - int((counts > 0).sum())),
        "duplicates": rollouts.duplicates,
        "beyond": rollouts.beyond,
        "bounds": _bounds(rollouts, wanted) if missing and done else None,
    }


def _bounds(rollouts: Rollouts, wanted: int) -> dict[str, dict[str, float] | None]:
    """The mean over all that is wanted, if everything missing were worth nothing, or all."""
    missing = wanted - len(rollouts)
    right = int(rollouts.success.sum())
    reward = None
    if bool(((rollouts.reward >= 0) & (rollouts.reward <= 1)).all()):
        total = float(rollouts.reward.sum())
        reward = {"low": total / wanted, "high": (total + missing) / wanted}
    return {"reward": reward, "success": {"low": right / wanted, "high": (right + missing) / wanted}}


@dataclass(frozen=True)
class Failures:
    """`by_reason`: attempts that failed, and rollouts of which some did, for each reason. `unresolved` rollouts have no
    reward yet, `given_up` of them failed too often.
    """

    by_reason: list[dict[str, Any]]
    attempts: int
    unresolved: int
    given_up: int


def count_failures(table: Table) -> Failures:
    """Of a table that is not used up yet."""
    prompts, repeats, reasons = (
        column.as_array().tolist() for column in (table.failed_prompt, table.failed_repeat, table.failed_reason)
    )
    if not prompts:
        return Failures([], 0, 0, 0)
    tries = Counter(zip(prompts, repeats, strict=True))
    last = {(prompt, repeat): reason for prompt, repeat, reason in zip(prompts, repeats, reasons, strict=True)}
    done = _done_among(table, last)
    words = list(table.reasons)
    attempts = Counter(words[reason] for reason in reasons)
    unresolved = Counter(words[reason] for sample, reason in last.items() if sample not in done)
    by_reason = [
        {"reason": reason, "attempts": count, "unresolved": unresolved[reason]}
        for reason, count in sorted(attempts.items(), key=lambda each: (-each[1], each[0]))
    ]
    given_up = sum(count >= GIVEN_UP_AFTER for sample, count in tries.items() if sample not in done)
    return Failures(by_reason, len(prompts), len(last) - len(done), given_up)


def _done_among(table: Table, samples: dict[tuple[int, int], int]) -> set[tuple[int, int]]:
    """Those of the samples that have a reward, too."""
    import numpy

    prompt, repeat = table.prompt.as_array(), table.repeat.as_array()
    rows = numpy.flatnonzero(numpy.isin(prompt, numpy.array([each for each, _ in samples])))
    return {pair for pair in zip(prompt[rows].tolist(), repeat[rows].tolist(), strict=True) if pair in samples}


def compare_tries(rollouts: Rollouts) -> dict[str, Any] | None:
    """Rollouts that went well at once beside those that needed another try, and their difference on the prompts that
    have both: if it is not about 0, retrying changes what is measured. None where none was retried.
    """
    again = rollouts.retried
    if not again.any() or again.all():
        return None
    found: dict[str, Any] = {"rollouts": {"first": int((~again).sum()), "retried": int(again.sum())}}
    for name, values in (("reward", rollouts.reward), ("success", rollouts.success)):
        before = dict(zip(*(each.tolist() for each in rollouts.means(values, ~again)), strict=True))
        after = dict(zip(*(each.tolist() for each in rollouts.means(values, again)), strict=True))
        both = before.keys() & after.keys()
        found[name] = {
            "first": mean_of(rollouts, values, ~again).as_json(),
            "retried": mean_of(rollouts, values, again).as_json(),
            "difference": _difference(before, after, most=1.0 if name == "success" else None) if both else None,
        }
    return found


def _difference(before: Mapping[str, float], after: Mapping[str, float], most: float | None) -> dict[str, Any]:
    """Paired by prompt; a difference of shares is not larger than `most`."""
    found = paired_difference(before, after, trials=False)._asdict()
    if most is not None:
        found |= {"low": max(-most, found["low"]), "high": min(most, found["high"])}
    return found


def describe_source(source: Source, shown: str) -> dict[str, Any]:
    """A file as the report names it, and what was wrong in it."""
    return {
        "file": shown,
        "format": str(source.format) if source.format else None,
        "bytes": source.size,
        "rows": source.rows,
        "failures": source.failures,
        "bad_lines": source.bad_lines,
        "bad": [{"line": line, "why": why} for line, why in source.bad],
        "torn": source.torn,
        "has_repeats": source.has_repeats,
        "says": source.says,
    }
