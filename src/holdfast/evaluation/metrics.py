"""`metrics.json`: what the rows of an evaluation say of a model, each number with its interval, and what is missing.

    {schema, step, metrics: [{name, value, low, high, k, n_prompts, method}],
     coverage: {expected, done, failed, bounds}, truncated, tokens, time, variance, identity}

What could not be asked or graded is no reward of 0. The numbers are of what there is, and beside them `coverage` says
how much that is, why the rest is missing, and the accuracy if all of it were wrong or all right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from holdfast.core.errors import ConfigError
from holdfast.evaluation.intervals import bootstrap_interval, mean_interval, variance_parts
from holdfast.evaluation.subsets import DRAWS, best_at, majority_at, pass_all, pass_at
from holdfast.rollouts.collection import Row, Sample

SCHEMA = 1
ACCURACY = "accuracy"
NAME = re.compile(r"(pass@|pass\^|maj@|best@)(\d+)")

Responses = Mapping[str, Sequence[Row]]
"""The rows of each prompt, by prompt id; prompts without any are left out."""


def summarise(
    rows: Mapping[Sample, Row],
    ids: Sequence[str],
    repeats: int,
    *,
    step: int = 0,
    identity: Mapping[str, Any] | None = None,
    failed: Mapping[str, int] | None = None,
    ks: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `metrics.json` for `repeats` responses to each of `ids`.

    `rows` may hold more than these, which do not count. `failed`: how many could not be had, by reason. `ks`: by
    default the powers of 2 up to `repeats`, and `repeats`. `seed` is that of the resampling.

    Raises:
        ValueError: there is no response at all.
    """
    responses = {each: found for each in ids if (found := _rows_of(rows, each, repeats))}
    if not responses:
        raise ValueError("no response was recorded: there is nothing to summarise")
    everything = [row for found in responses.values() for row in found]
    names = [ACCURACY, *_names(everything, ks or default_ks(repeats))]
    return {
        "schema": SCHEMA,
        "step": step,
        "metrics": [metric for name in names if (metric := measure(name, responses, repeats, seed))],
        "coverage": _coverage(responses, len(ids), repeats, failed or {}),
        "truncated": _truncated(responses),
        "tokens": {
            "prompt": spread(_usage(everything, "prompt_tokens")),
            "completion": spread(_usage(everything, "completion_tokens")),
        },
        "time": {"request": spread(_seconds(everything)), "busy": _busy(everything)},
        "variance": _variance(responses),
        "identity": dict(identity or {}),
    }


def _rows_of(rows: Mapping[Sample, Row], prompt: str, repeats: int) -> list[Row]:
    samples = (Sample(prompt, repeat) for repeat in range(repeats))
    return [rows[sample] for sample in samples if sample in rows]


def default_ks(repeats: int) -> list[int]:
    """2, 4, 8, ... and `repeats`."""
    powers = [1 << power for power in range(1, repeats.bit_length()) if 1 << power < repeats]
    return [*powers, repeats] if repeats > 1 else []


def _names(rows: Sequence[Row], ks: Iterable[int]) -> list[str]:
    kinds = ["pass@{}", "pass^{}"]
    if any(row.get("answer") is not None for row in rows):
        kinds.append("maj@{}")
    if not _is_binary(rows):
        kinds.append("best@{}")
    return [kind.format(k) for kind in kinds for k in ks]


def _is_binary(rows: Iterable[Row]) -> bool:
    return all(row["reward"] in (0, 1) for row in rows)


def measure(name: str, responses: Responses, repeats: int, seed: int = 0) -> dict[str, Any] | None:
    """One metric with its interval; None where no prompt has enough responses.

    Raises:
        ConfigError: there is no such metric.
    """
    values, how = prompt_values(name, responses, seed)
    if not values:
        return None
    if name == ACCURACY:
        found = mean_interval(list(values.values()), trials=is_trials(responses))
    else:
        found = bootstrap_interval(list(values.values()), seed)
    k = int(match[2]) if (match := NAME.fullmatch(name)) else repeats
    return {"name": name, "k": k, **found.as_json(), **how}


def is_trials(responses: Responses) -> bool:
    """Whether every prompt has one response that is right or wrong."""
    return all(len(found) == 1 and _is_binary(found) for found in responses.values())


def prompt_values(name: str, responses: Responses, seed: int = 0) -> tuple[dict[str, float], dict[str, str]]:
    """The metric of each prompt that has enough responses for it, and how it was had where there are two ways.

    Raises:
        ConfigError: there is no such metric.
    """
    if name == ACCURACY:
        return {each: fmean(row["reward"] for row in found) for each, found in responses.items()}, {}
    match = NAME.fullmatch(name)
    if not match or not int(match[2]):
        raise ConfigError(f"there is no metric `{name}`", "metrics: accuracy, pass@K, pass^K, maj@K, best@K")
    kind, k = match[1], int(match[2])
    enough = {each: found for each, found in responses.items() if len(found) >= k}
    if kind == "maj@":
        return _majorities(k, enough, seed)
    return {each: _of_subsets(kind, k, found) for each, found in enough.items()}, {}


def _of_subsets(kind: str, k: int, rows: Sequence[Row]) -> float:
    if kind == "best@":
        return best_at(k, [row["reward"] for row in rows])
    right = sum(bool(row.get("success", row["reward"] >= 1.0)) for row in rows)
    return (pass_at if kind == "pass@" else pass_all)(k, right, len(rows))


def _majorities(k: int, responses: Responses, seed: int) -> tuple[dict[str, float], dict[str, str]]:
    found = {
        each: majority_at(k, [row["reward"] for row in rows], [row.get("answer") for row in rows], f"{seed}:{each}")
        for each, rows in responses.items()
    }
    drawn = sum(not each.exact for each in found.values())
    how = "exact" if not drawn else f"{DRAWS} subsets drawn for {drawn} of {len(found)} prompts"
    return {each: majority.value for each, majority in found.items()}, {"subsets": how}


def _coverage(responses: Responses, prompts: int, repeats: int, failed: Mapping[str, int]) -> dict[str, Any]:
    expected, done = prompts * repeats, sum(map(len, responses.values()))
    return {
        "expected": expected,
        "done": done,
        "failed": dict(sorted(failed.items())),
        "bounds": _bounds(responses, prompts, repeats) if done < expected else None,
    }


def _bounds(responses: Responses, prompts: int, repeats: int) -> dict[str, float] | None:
    """The accuracy if all that is missing were wrong, or right; None where rewards are no shares."""
    rewards = [row["reward"] for found in responses.values() for row in found]
    if not all(0 <= reward <= 1 for reward in rewards):
        return None
    expected = prompts * repeats
    low = math.fsum(rewards) / expected
    return {"low": low, "high": low + (expected - len(rewards)) / expected}


def _truncated(responses: Responses) -> dict[str, Any] | None:
    """The share of responses that ended at the limit of tokens; None where nobody recorded how they ended."""
    known = {each: [row for row in found if row.get("finish")] for each, found in responses.items()}
    shares = [fmean(row["finish"] == "length" for row in found) for found in known.values() if found]
    if not shares:
        return None
    found = mean_interval(shares, trials=all(len(each) == 1 for each in known.values()))
    return found.as_json()


def _usage(rows: Iterable[Row], key: str) -> list[float]:
    found = ((row.get("usage") or {}).get(key) for row in rows)
    return [float(value) for value in found if isinstance(value, int | float)]


def _spans(rows: Iterable[Row]) -> list[tuple[float, float]]:
    timings = (row.get("timing") or {} for row in rows)
    return [(each["started"], each["finished"]) for each in timings if {"started", "finished"} <= each.keys()]


def _seconds(rows: Iterable[Row]) -> list[float]:
    return [finished - started for started, finished in _spans(rows)]


def _busy(rows: Iterable[Row]) -> float | None:
    """Seconds in which at least one request was under way: the time between attempts does not count."""
    spans = sorted(_spans(rows))
    total, until = 0.0, -math.inf
    for started, finished in spans:
        total += max(0.0, finished - max(started, until))
        until = max(until, finished)
    return total if spans else None


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, median, 95th percentile (nearest rank) and sum; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.95))
    return {"mean": fmean(ordered), "p50": p50, "p95": p95, "sum": math.fsum(ordered)}


def _variance(responses: Responses) -> dict[str, float] | None:
    found = variance_parts([[row["reward"] for row in rows] for rows in responses.values()])
    return found._asdict() if found else None
