"""Is B better than A, on the same prompts: the paired difference, its interval, and what could have been seen.

The pairing takes away what is common to both (hard prompts are hard for both), so the interval is narrower than the two
models' own suggest. Of one response to each prompt, right or wrong, the interval is Newcombe's hybrid score ("Improved
confidence intervals for the difference between binomial proportions based on paired data", Statistics in Medicine 17,
1998, method 10) and the test McNemar's, exact; otherwise both are Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

from holdfast.evaluation.intervals import wilson
from holdfast.evaluation.statistics import t_distribution, t_quantile

POWER = 0.8


class Difference(NamedTuple):
    """`value` is B - A, the mean over the common prompts. `p` is two-sided. `detectable` is the difference that would
    have been found 4 times of 5. method: t, or newcombe with mcnemar's p.
    """

    value: float
    low: float
    high: float
    n_prompts: int
    p: float
    detectable: float
    method: str


def paired_difference(
    before: Mapping[str, float], after: Mapping[str, float], *, trials: bool, confidence: float = 0.95
) -> Difference:
    """Of one value for each prompt, on the prompts that both have. `trials`: each is one response, right or wrong.

    Raises:
        ValueError: they have no prompt in common.
    """
    common = [prompt for prompt in before if prompt in after]
    if not common:
        raise ValueError("no prompt is in both")
    pairs = [(before[prompt], after[prompt]) for prompt in common]
    gains = [right - left for left, right in pairs]
    error = _standard_error(gains)
    detectable = detectable_difference(error, len(gains), confidence)
    value = fmean(gains)
    if trials:
        low, high = newcombe(pairs, confidence)
        return Difference(value, low, high, len(gains), mcnemar(pairs), detectable, "newcombe")
    half = _t(0.5 + confidence / 2, len(gains)) * error
    if not half:  # no spread at all says nothing of prompts that were not asked
        half = _unseen(len(gains), confidence)
    return Difference(value, value - half, value + half, len(gains), _t_test(value, error, len(gains)), detectable, "t")


def detectable_difference(error: float, prompts: int, confidence: float = 0.95, power: float = POWER) -> float:
    """The difference that a comparison with this standard error finds with this probability (Miller 2024,
    arXiv:2411.00640, section 5); without any spread, what so few prompts may hide.
    """
    if not error:
        return _unseen(prompts, confidence)
    return (_t(0.5 + confidence / 2, prompts) + NormalDist().inv_cdf(power)) * error


def newcombe(pairs: Sequence[tuple[float, float]], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of right - left, each 0 or 1."""
    count = len(pairs)
    first, second = fmean(left for left, _ in pairs), fmean(right for _, right in pairs)
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)
    (low_1, high_1), (low_2, high_2) = wilson(first, count, quantile), wilson(second, count, quantile)
    phi = _correlation(pairs)
    down, up = (second - low_2, high_1 - first), (high_2 - second, first - low_1)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    return max(-1.0, second - first - reach(*down)), min(1.0, second - first + reach(*up))


def mcnemar(pairs: Sequence[tuple[float, float]]) -> float:
    """The exact two-sided p value: of the prompts on which they differ, one wins half."""
    wins = sum(right > left for left, right in pairs)
    losses = sum(right < left for left, right in pairs)
    differ = wins + losses
    tail = sum(math.comb(differ, each) for each in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << differ))


def holm(values: Sequence[float]) -> list[float]:
    """p values that hold for all of several comparisons at once (Holm 1979), in the order given."""
    adjusted = [0.0] * len(values)
    most = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda each: values[each])):
        most = max(most, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = most
    return adjusted


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the table of both right, one right, none right; corrected for continuity, as method 10 has it."""
    both = sum(left == right == 1 for left, right in pairs)
    first = sum(left > right for left, right in pairs)
    second = sum(right > left for left, right in pairs)
    none = len(pairs) - both - first - second
    sides = (both + first) * (second + none) * (both + second) * (first + none)
    if not sides:
        return 0.0
    product = float(both * none - first * second)
    if product > 0:
        product = max(0.0, product - len(pairs) / 2)
    return product / math.sqrt(sides)


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _t(probability: float, prompts: int) -> float:
    return t_quantile(probability, max(1, prompts - 1))


def _unseen(prompts: int, confidence: float) -> float:
    """How many prompts may behave otherwise where none of these did, as a share."""
    return wilson(0.0, prompts, NormalDist().inv_cdf(0.5 + confidence / 2))[1]


def _t_test(value: float, error: float, prompts: int) -> float:
    if not error:
        return 1.0 if not value else 0.5 ** (prompts - 1)  # a sign test: all prompts on one side
    return 2 * (1 - t_distribution(abs(value) / error, max(1, prompts - 1)))
