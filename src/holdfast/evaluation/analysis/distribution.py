"""How numbers are spread: rewards with their histogram, lengths, times."""

from __future__ import annotations

import math
from typing import Any

from holdfast.evaluation.analysis.groups import Array, Rollouts

EACH = 25
"""Distinct rewards up to which each has a bar of its own."""
BARS = 30
COMMON = 20
"""Exact rewards that are listed, as `sort | uniq -c` would."""
QUANTILES = (0.05, 0.25, 0.75, 0.95)


def describe(values: Array) -> dict[str, Any] | None:
    """Count, smallest, largest, mean, median, standard deviation, quantiles (linear) and sum; None of nothing."""
    import numpy

    if not len(values):
        return None
    ordered = numpy.sort(values)
    mean = float(ordered.mean(dtype=float))
    found: dict[str, Any] = {
        "count": len(ordered),
        "min": ordered[0].item(),
        "max": ordered[-1].item(),
        "mean": mean,
        "median": _quantile(ordered, 0.5),
        "sd": float(ordered.std(ddof=1, dtype=float)) if len(ordered) > 1 else None,
        "sum": ordered.sum(dtype=float if ordered.dtype.kind == "f" else None).item(),
    }
    return found | {f"p{round(100 * share)}": _quantile(ordered, share) for share in QUANTILES}


def _quantile(ordered: Array, share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    below, above = float(ordered[low]), float(ordered[high])
    return below + (above - below) * (place - low)


def known(column: Array) -> Array:
    """The values of a column that somebody said."""
    return column[column >= 0]


def histogram(rollouts: Rollouts) -> dict[str, Any]:
    """Bars of the rewards, with the successes in each, and the most frequent exact rewards. A bar holds `low` and what
    is above it below `high`; the last one `high`, too.
    """
    import numpy

    ordered = numpy.sort(rollouts.reward)
    right = numpy.sort(rollouts.reward[rollouts.success])
    starts = numpy.flatnonzero(numpy.concatenate([[True], ordered[1:] != ordered[:-1]]))
    often = numpy.diff(numpy.append(starts, len(ordered)))
    frequent = numpy.lexsort((starts, -often))[:COMMON]
    common = [{"reward": float(ordered[starts[each]]), "count": int(often[each])} for each in frequent]
    if len(starts) <= EACH:
        bars = [
            _bar(right, value, value, int(count)) for value, count in zip(ordered[starts].tolist(), often, strict=True)
        ]
    else:
        bars = _bars(ordered, right)
    return {"distinct": len(starts), "bars": bars, "common": common}


def _bar(right: Array, low: float, high: float, count: int) -> dict[str, Any]:
    inside = right.searchsorted(high, side="right") - right.searchsorted(low)
    return {"low": low, "high": high, "count": count, "success": int(inside)}


def _bars(ordered: Array, right: Array) -> list[dict[str, Any]]:
    edges = edges_between(float(ordered[0]), float(ordered[-1]))
    places, solved = ordered.searchsorted(edges).tolist(), right.searchsorted(edges).tolist()
    # Edges are rounded: what is largest or smallest must be inside all the same.
    places[0], solved[0], places[-1], solved[-1] = 0, 0, len(ordered), len(right)
    return [
        {
            "low": edges[at],
            "high": edges[at + 1],
            "count": places[at + 1] - places[at],
            "success": solved[at + 1] - solved[at],
        }
        for at in range(len(edges) - 1)
    ]


def edges_between(low: float, high: float) -> list[float]:
    """Round numbers around everything from low to high, as far apart as gives `BARS` bars or fewer."""
    rough = max((high - low) / (BARS - 2), 1e-300)
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.floor(low / width), math.ceil(high / width)
    return [place * width for place in range(first, max(last, first + 1) + 1)]
