"""`metrics.json` made plainly, of rows that are all held: what the one that streams is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy

from holdfast.evaluation.intervals import FEW, RESAMPLES, Interval, mean_interval
from holdfast.evaluation.metrics import default_ks
from holdfast.evaluation.subsets import DRAWS, best_at, majority_at, pass_all, pass_at
from holdfast.rollouts.collection import Row, Sample

Responses = Mapping[str, Sequence[Row]]


def summarise(rows: Mapping[Sample, Row], ids: Sequence[str], repeats: int) -> dict[str, Any]:
    """The content of `metrics.json` for `repeats` responses to each of `ids`."""
    samples = {each: [Sample(each, repeat) for repeat in range(repeats)] for each in ids}
    responses = {each: found for each in ids if (found := [rows[one] for one in samples[each] if one in rows])}
    everything = [row for found in responses.values() for row in found]
    spans = [(row["timing"]["started"], row["timing"]["finished"]) for row in everything if row.get("timing")]
    return {
        "schema": 1,
        "step": 0,
        "metrics": [metric for name in names(everything, repeats) if (metric := measure(name, responses, repeats))],
        "coverage": coverage(everything, len(ids) * repeats),
        "truncated": truncated(responses),
        "tokens": {kind: spread(usage(everything, f"{kind}_tokens")) for kind in ("prompt", "completion")},
        "time": {"request": spread([finished - started for started, finished in spans]), "busy": busy(spans)},
        "variance": variance([[row["reward"] for row in found] for found in responses.values()]),
        "identity": {},
    }


def names(rows: Sequence[Row], repeats: int) -> list[str]:
    kinds = ["pass@{}", "pass^{}"]
    kinds += ["maj@{}"] if any(row.get("answer") is not None for row in rows) else []
    kinds += ["best@{}"] if not all(row["reward"] in (0, 1) for row in rows) else []
    return ["accuracy", *(kind.format(k) for kind in kinds for k in default_ks(repeats))]


def measure(name: str, responses: Responses, repeats: int) -> dict[str, Any] | None:
    if name == "accuracy":
        means = [fmean(row["reward"] for row in rows) for rows in responses.values()]
        trials = all(len(rows) == 1 and rows[0]["reward"] in (0, 1) for rows in responses.values())
        return {"name": name, "k": repeats, **mean_interval(means, trials=trials).as_json()}
    at = 4 if name.startswith("maj@") else 5
    kind, k = name[:at], int(name[at:])
    found = {each: rows for each, rows in responses.items() if len(rows) >= k}
    if not found:
        return None
    if kind == "maj@":
        voted = {
            each: majority_at(k, [row["reward"] for row in rows], [row.get("answer") for row in rows], f"0:{each}")
            for each, rows in found.items()
        }
        drawn = sum(not each.exact for each in voted.values())
        how = {"subsets": f"{DRAWS} subsets drawn for {drawn} of {len(found)} prompts" if drawn else "exact"}
        values = [each.value for each in voted.values()]
        return {"name": name, "k": k, **bootstrap(values).as_json(), **how}
    return {"name": name, "k": k, **bootstrap([of_subsets(kind, k, rows) for rows in found.values()]).as_json()}


def of_subsets(kind: str, k: int, rows: Sequence[Row]) -> float:
    if kind == "best@":
        return best_at(k, [row["reward"] for row in rows])
    right = sum(bool(row.get("success", row["reward"] >= 1.0)) for row in rows)
    return (pass_at if kind == "pass@" else pass_all)(k, right, len(rows))


def bootstrap(values: Sequence[float]) -> Interval:
    """All draws at once."""
    if all(0 <= value <= 1 for value in values) and (len(values) < FEW or fmean(values) in (0, 1)):
        return mean_interval(values, trials=False)
    given = numpy.asarray(values, dtype=float)
    chosen = numpy.random.default_rng(0).integers(0, len(given), (RESAMPLES, len(given)))
    low, high = numpy.quantile(given[chosen].mean(axis=1), [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return Interval(float(given.mean()), float(low), float(high), len(values), "bootstrap")


def coverage(rows: Sequence[Row], expected: int) -> dict[str, Any]:
    rewards = [row["reward"] for row in rows]
    bounds = None
    if len(rows) < expected and all(0 <= reward <= 1 for reward in rewards):
        low = math.fsum(rewards) / expected
        bounds = {"low": low, "high": low + (expected - len(rows)) / expected}
    return {"expected": expected, "done": len(rows), "failed": {}, "bounds": bounds}


def truncated(responses: Responses) -> dict[str, Any] | None:
    known = [[row for row in rows if row.get("finish")] for rows in responses.values()]
    shares = [fmean(row["finish"] == "length" for row in rows) for rows in known if rows]
    return mean_interval(shares, trials=all(len(rows) == 1 for rows in known)).as_json() if shares else None


def usage(rows: Iterable[Row], key: str) -> list[float]:
    found = ((row.get("usage") or {}).get(key) for row in rows)
    return [float(value) for value in found if isinstance(value, int | float)]


def busy(spans: Sequence[tuple[float, float]]) -> float | None:
    total, until = 0.0, -math.inf
    for started, finished in sorted(spans):
        total += max(0.0, finished - max(started, until))
        until = max(until, finished)
    return total if spans else None


def spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    p50, p95 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.95))
    return {"mean": fmean(ordered), "p50": p50, "p95": p95, "sum": math.fsum(ordered)}


def variance(rewards: Sequence[Sequence[float]]) -> dict[str, float] | None:
    sizes = [len(each) for each in rewards]
    total, groups = sum(sizes), len(sizes)
    if groups < 2 or total == groups:
        return None
    everything = math.fsum(map(math.fsum, rewards)) / total
    means = [fmean(each) for each in rewards]
    inside = math.fsum((value - mean) ** 2 for each, mean in zip(rewards, means, strict=True) for value in each)
    outside = math.fsum(size * (mean - everything) ** 2 for size, mean in zip(sizes, means, strict=True))
    within = inside / (total - groups)
    usual = (total - sum(size**2 for size in sizes) / total) / (groups - 1)
    between = max(0.0, (outside / (groups - 1) - within) / usual)
    repeats = within * fmean(1 / size for size in sizes)
    shares = (between / (between + within), repeats / (between + repeats)) if within + between else (0.0, 0.0)
    return {"between": between, "within": within, "icc": shares[0], "from_repeats": shares[1]}
