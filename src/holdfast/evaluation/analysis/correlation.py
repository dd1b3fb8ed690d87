"""Pearson's and Spearman's correlation over rollouts, with intervals that know that those of a prompt belong together.

The interval comes from the influence of each rollout on the coefficient, summed by prompt (the clustered sandwich, as
Miller 2024, arXiv:2411.00640, section 2.2, has it for means), on Fisher's z scale, with Student's t of (prompts - 1)
degrees of freedom. Spearman's is the correlation of mid-distribution ranks; its influence holds that the ranks are
estimated, too (Croux and Dehon, "Influence functions of the Spearman and Kendall correlation measures", 2010, with ties
added). Memory is a few megabytes beside the columns, whatever their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.evaluation.analysis.groups import STEP, Array, Rollouts
from holdfast.evaluation.statistics import t_quantile

Chunks = Callable[[], Iterator[tuple[Array, Array, Array]]]
"""Makes (prompt, x, y) in steps, as often as it is asked."""
LEAST = 3
"""Rollouts, and prompts, with fewer of which nothing is correlated."""
TINY = 1e-24
"""Of a sum of squares relative to the largest value's: what rounding leaves where nothing varies."""


@dataclass(frozen=True)
class Correlation:
    """`kind`: pearson, spearman, or within (Pearson's, of the deviations from each prompt's own means)."""

    kind: str
    value: float
    low: float | None
    high: float | None
    n_rollouts: int
    n_prompts: int

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def correlate(rollouts: Rollouts, x: Array, step: int = STEP) -> list[Correlation]:
    """All kinds, of `x` (negative where it is not known) with the reward; those that are not defined are left out.
    `step` rollouts are taken at a time.
    """
    chunks = _chunks(rollouts, x, step)
    if sum(len(prompt) for prompt, _, _ in chunks()) < LEAST:
        return []
    found = [
        _pearson("pearson", chunks, len(rollouts.ids)),
        _spearman(chunks, len(rollouts.ids)),
        _pearson("within", _centred(rollouts, x, chunks), len(rollouts.ids)),
    ]
    return [each for each in found if each is not None]


def _chunks(rollouts: Rollouts, x: Array, step: int) -> Chunks:
    def make() -> Iterator[tuple[Array, Array, Array]]:
        for start in range(0, len(rollouts), step):
            rows = slice(start, start + step)
            known = x[rows] >= 0
            yield rollouts.prompt[rows][known], x[rows][known].astype(float), rollouts.reward[rows][known]

    return make


def _centred(rollouts: Rollouts, x: Array, chunks: Chunks) -> Chunks:
    import numpy

    size = len(rollouts.ids)
    counts, sums_x, sums_y = numpy.zeros(size), numpy.zeros(size), numpy.zeros(size)
    for prompt, one, other in chunks():
        counts += numpy.bincount(prompt, minlength=size)
        sums_x += numpy.bincount(prompt, weights=one, minlength=size)
        sums_y += numpy.bincount(prompt, weights=other, minlength=size)
    mean_x, mean_y = sums_x / numpy.maximum(counts, 1), sums_y / numpy.maximum(counts, 1)

    def make() -> Iterator[tuple[Array, Array, Array]]:
        for prompt, one, other in chunks():
            kept = counts[prompt] > 1
            prompt = prompt[kept]
            yield prompt, one[kept] - mean_x[prompt], other[kept] - mean_y[prompt]

    return make


def _pearson(kind: str, chunks: Chunks, prompts: int) -> Correlation | None:
    import numpy

    count, mean_x, mean_y, largest_x, largest_y = _moments(chunks)
    if count < LEAST:
        return None
    products = numpy.zeros(3)
    for _, x, y in chunks():
        left, right = x - mean_x, y - mean_y
        products += [(left * left).sum(), (left * right).sum(), (right * right).sum()]
    if products[0] <= TINY * count * largest_x**2 or products[2] <= TINY * count * largest_y**2:
        return None  # one of them does not vary: there is no correlation
    scale_x, scale_y = math.sqrt(products[0] / count), math.sqrt(products[2] / count)
    value = float(products[1] / count / scale_x / scale_y)
    by_prompt, present = numpy.zeros(prompts), numpy.zeros(prompts, dtype=bool)
    for prompt, x, y in chunks():
        left, right = (x - mean_x) / scale_x, (y - mean_y) / scale_y
        influence = left * right - value / 2 * (left**2 + right**2)
        by_prompt += numpy.bincount(prompt, weights=influence, minlength=prompts)
        present[prompt] = True
    return _with_interval(kind, value, by_prompt[present], count)


def _moments(chunks: Chunks) -> tuple[int, float, float, float, float]:
    """How many, both means, and both largest magnitudes."""
    count, sum_x, sum_y, largest_x, largest_y = 0, 0.0, 0.0, 0.0, 0.0
    for _, x, y in chunks():
        count += len(x)
        sum_x, sum_y = sum_x + float(x.sum()), sum_y + float(y.sum())
        largest_x, largest_y = max(largest_x, abs(x).max(initial=0)), max(largest_y, abs(y).max(initial=0))
    return count, sum_x / max(count, 1), sum_y / max(count, 1), float(largest_x), float(largest_y)


class _Ranks:
    """The distinct values of one side, their mid-distribution ranks (0 to 1), and what is gathered for each."""

    def __init__(self, values: Array, counts: Array) -> None:
        import numpy

        self.values = values
        self.total = int(counts.sum())
        self.rank = (numpy.cumsum(counts) - counts / 2) / self.total
        self.variance = float((counts * self.rank**2).sum()) / self.total - 0.25
        self.self_above = _mass_above(counts * self.rank) / self.total
        self.gathered = numpy.zeros(len(values))

    def place(self, values: Array) -> Array:
        return self.values.searchsorted(values)

    def gather(self, places: Array, weights: Array) -> None:
        import numpy

        self.gathered += numpy.bincount(places, weights=weights, minlength=len(self.values))

    def above(self) -> Array:
        """For each value, the mean over rollouts of what was gathered above it, and half of that at it."""
        return _mass_above(self.gathered) / self.total


def _mass_above(mass: Array) -> Array:
    return mass[::-1].cumsum()[::-1] - mass / 2


def _spearman(chunks: Chunks, prompts: int) -> Correlation | None:
    import numpy

    x_side, y_side = (_Ranks(*_distinct(chunks, side)) for side in (1, 2))
    count = x_side.total
    if x_side.variance <= 1e-15 or y_side.variance <= 1e-15:
        return None
    product = 0.0
    for _, x, y in chunks():
        place_x, place_y = x_side.place(x), y_side.place(y)
        rank_x, rank_y = x_side.rank[place_x], y_side.rank[place_y]
        product += float((rank_x * rank_y).sum())
        x_side.gather(place_x, rank_y)
        y_side.gather(place_y, rank_x)
    product /= count
    scale = math.sqrt(x_side.variance * y_side.variance)
    value = (product - 0.25) / scale
    above_x, above_y = x_side.above(), y_side.above()
    by_prompt, present = numpy.zeros(prompts), numpy.zeros(prompts, dtype=bool)
    for prompt, x, y in chunks():
        place_x, place_y = x_side.place(x), y_side.place(y)
        covariance = x_side.rank[place_x] * y_side.rank[place_y] + above_x[place_x] + above_y[place_y] - 3 * product
        spread = _spread(x_side, place_x) / x_side.variance + _spread(y_side, place_y) / y_side.variance
        influence = covariance / scale - value / 2 * spread
        by_prompt += numpy.bincount(prompt, weights=influence, minlength=prompts)
        present[prompt] = True
    return _with_interval("spearman", value, by_prompt[present], count)


def _spread(side: _Ranks, places: Array) -> Array:
    """The influence of each rollout on the variance of the ranks."""
    return side.rank[places] ** 2 + 2 * side.self_above[places] - 3 * (side.variance + 0.25)


def _distinct(chunks: Chunks, side: int) -> tuple[Array, Array]:
    """The distinct values in order, and how often each comes."""
    import numpy

    values, counts = numpy.zeros(0), numpy.zeros(0, dtype=numpy.int64)
    for chunk in chunks():
        found, often = numpy.unique(chunk[side], return_counts=True)
        both = numpy.concatenate([values, found])
        weights = numpy.concatenate([counts, often])
        values, places = numpy.unique(both, return_inverse=True)
        counts = numpy.bincount(places, weights=weights, minlength=len(values)).astype(numpy.int64)
    return values, counts


def _with_interval(kind: str, value: float, by_prompt: Array, count: int) -> Correlation:
    prompts = len(by_prompt)
    value = min(1.0, max(-1.0, value))
    if prompts < LEAST or 1 - value**2 < 1e-12:
        return Correlation(kind, value, None, None, count, prompts)
    error = math.sqrt(float((by_prompt**2).sum()) * prompts / (prompts - 1)) / count
    half = t_quantile(0.975, prompts - 1) * error / (1 - value**2)
    centre = math.atanh(value)
    return Correlation(kind, value, math.tanh(centre - half), math.tanh(centre + half), count, prompts)
