"""Which interval a mean over prompts gets, and the ones that `statistics` has not.

Student's t needs some dozens of prompts and a mean away from 0 and 1: at 20 of 20 it has no width at all. There, and
for one response to each prompt that is right or wrong, the interval is Wilson's (1927), as Bowyer et al., "Don't use
the CLT in LLM evals with fewer than a few hundred datapoints" (2025), arXiv:2503.01747, advise. With repeats it takes
as many independent trials as would give the spread that the prompts' means have.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

from holdfast.evaluation.statistics import estimate_mean, t_quantile

FEW = 30
"""Prompts, below which a bounded mean gets Wilson's interval."""
RESAMPLES = 4000
CELLS = 1 << 19
"""How many prompts are drawn at a time."""


class Interval(NamedTuple):
    """A mean over prompts with its interval; `method` is t, wilson or bootstrap."""

    value: float
    low: float
    high: float
    n_prompts: int
    method: str

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: the ends of an interval of which nothing is known are null."""
        return {key: None if value in (math.inf, -math.inf) else value for key, value in self._asdict().items()}


def wilson(share: float, trials: float, quantile: float) -> tuple[float, float]:
    """Of a share of so many trials; `quantile` is the normal's, or Student's t where the trials are estimated."""
    square = quantile**2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = quantile / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float], *, trials: bool, confidence: float = 0.95) -> Interval:
    """Of the mean of one value for each prompt. `trials`: each is one response, right or wrong.

    Raises:
        ValueError: there is no prompt.
    """
    if not values or not _needs_wilson(values, trials):
        found = estimate_mean(values, confidence)
        low, high = _within(values, found.low, found.high)
        return Interval(found.value, low, high, found.n_prompts, "t")
    return _wilson_interval(values, trials, confidence)


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, confidence: float = 0.95, *, cells: int = CELLS
) -> Interval:
    """Of the mean of values whose distribution is far from normal (pass@k, maj@k): prompts are drawn again, with all
    that was asked of them, and the interval holds the middle of the means. Few prompts get Wilson's.

    Raises:
        ValueError: there is no prompt.
    """
    if not values or _needs_wilson(values, trials=False):
        return mean_interval(values, trials=False, confidence=confidence)
    import numpy

    draw = numpy.random.default_rng(seed)
    given = numpy.asarray(values, dtype=float)
    # Many prompts in steps, so that the indices are some megabytes; the draws are the same in steps of any size.
    step = max(1, cells // len(given))
    sizes = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]
    means = numpy.concatenate([given[draw.integers(0, len(given), (size, len(given)))].mean(axis=1) for size in sizes])
    low, high = numpy.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(given.mean()), float(low), float(high), len(values), "bootstrap")


def _needs_wilson(values: Sequence[float], trials: bool) -> bool:
    if not all(0 <= value <= 1 for value in values):
        return False
    return trials or len(values) < FEW or fmean(values) in (0, 1)


def _wilson_interval(values: Sequence[float], trials: bool, confidence: float) -> Interval:
    share, count = fmean(values), len(values)
    upper = 0.5 + confidence / 2
    quantile, effective = NormalDist().inv_cdf(upper), float(count)
    variance = math.fsum((value - share) ** 2 for value in values) / (count - 1) if count > 1 else 0.0
    if not trials and variance and 0 < share < 1:
        effective = max(count, share * (1 - share) / (variance / count))
        quantile = t_quantile(upper, count - 1)
    return Interval(share, *wilson(share, effective, quantile), count, "wilson")


def _within(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """The mean of values between 0 and 1 is there, too."""
    return (max(0.0, low), min(1.0, high)) if all(0 <= value <= 1 for value in values) else (low, high)


class Variance(NamedTuple):
    """What the rewards vary by: between prompts, and among the responses to one. `icc` is the share of the former,
    `from_repeats` the share of the mean's variance that more repeats of the same prompts would take away.
    """

    between: float
    within: float
    icc: float
    from_repeats: float


def variance_parts(rewards: Iterable[Sequence[float]]) -> Variance | None:
    """By one-way analysis of variance (Searle, Casella and McCulloch, "Variance Components", 1992, section 3.6); None
    without two prompts and one prompt with two responses.
    """
    sizes, sums, means = array("L"), array("d"), array("d")

    def squares() -> Iterator[float]:
        for each in rewards:
            mean = fmean(each)
            sizes.append(len(each))
            sums.append(math.fsum(each))
            means.append(mean)
            yield from ((value - mean) ** 2 for value in each)

    inside = math.fsum(squares())
    total, groups = sum(sizes), len(sizes)
    if groups < 2 or total == groups:
        return None
    everything = math.fsum(sums) / total
    outside = math.fsum(size * (mean - everything) ** 2 for size, mean in zip(sizes, means, strict=True))
    within = inside / (total - groups)
    usual = (total - sum(size**2 for size in sizes) / total) / (groups - 1)
    between = max(0.0, (outside / (groups - 1) - within) / usual)
    repeats = within * fmean(1 / size for size in sizes)
    if not within + between:
        return Variance(0.0, 0.0, 0.0, 0.0)
    return Variance(between, within, between / (between + within), repeats / (between + repeats))
