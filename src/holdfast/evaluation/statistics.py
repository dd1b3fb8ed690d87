"""Accuracy with an interval, and the gain between two models on the same prompts.

The prompt is the unit of sampling: repeats of one prompt are not independent of each other, so every interval is
built from one number per prompt (clustered standard errors). The paired gain takes differences per prompt, which
removes what is common to both models. Both as in Miller, "Adding Error Bars to Evals" (2024), arXiv:2411.00640,
sections 2 and 4. Intervals are Student's t with (prompts - 1) degrees of freedom: close to the normal for many
prompts, honest for few. The standard library is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

MANY = 5000
"""Degrees of freedom, above which the finite sum would take longer than what it is for."""
Rewards = Mapping[str, Sequence[float]]
"""Rewards of the repeats of each prompt, by prompt id."""


class Estimate(NamedTuple):
    """A mean with its two-sided interval. With a single prompt the interval is unbounded: nothing is known of its
    width.
    """

    value: float
    low: float
    high: float
    n_prompts: int


def accuracy(rewards: Rewards, confidence: float = 0.95) -> Estimate:
    """Mean over prompts of the mean over repeats.

    Raises:
        ValueError: there is no prompt, or one without a repeat.
    """
    return estimate_mean([fmean(values) for values in rewards.values()], confidence)


def paired_gain(before: Rewards, after: Rewards, confidence: float = 0.95) -> Estimate:
    """Mean over prompts of the difference between the two means. The repeats may differ in number.

    Raises:
        ValueError: the two are not on the same prompts.
    """
    if before.keys() != after.keys():
        only = sorted(before.keys() ^ after.keys())
        raise ValueError(f"paired gain needs the same prompts, {len(only)} are in one only, such as {only[:3]}")
    return estimate_mean([fmean(after[prompt]) - fmean(before[prompt]) for prompt in before], confidence)


def pooled_gain(before: Rewards, after: Sequence[Rewards], confidence: float = 0.95) -> Estimate:
    """As `paired_gain`, for the mean over several runs on the same prompts.

    The interval is over prompts, for these runs: it says nothing of runs with other seeds.
    """
    pooled = {prompt: [fmean(run[prompt]) for run in after] for prompt in before}
    return paired_gain(before, pooled, confidence)


def estimate_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of independent values and its Student t interval."""
    if not values:
        raise ValueError("no prompts: a mean of nothing")
    mean = fmean(values)
    count = len(values)
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = t_quantile(0.5 + confidence / 2, count - 1) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)


def t_quantile(probability: float, degrees: int) -> float:
    """The value below which Student's t falls with this probability (0.5 or more), by bisection to machine
    precision; of very many degrees by Abramowitz and Stegun 26.7.5, right to 12 digits.
    """
    if degrees > MANY:
        return _expand(NormalDist().inv_cdf(probability), degrees)
    low, high = 0.0, 1.0
    while t_distribution(high, degrees) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_distribution(middle, degrees) < probability else (low, middle)
    return high


def _expand(normal: float, degrees: int) -> float:
    """Student's quantile from the normal's."""
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    third = (3 * normal**7 + 19 * normal**5 + 17 * normal**3 - 15 * normal) / 384
    return normal + first / degrees + second / degrees**2 + third / degrees**3


def t_distribution(value: float, degrees: int) -> float:
    """P(T <= value) for value >= 0: a finite trigonometric sum, Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(value / math.sqrt(degrees))
    cosine = math.cos(theta)
    odd = degrees % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for index in range(3 if odd else 2, degrees - 1, 2):
        term *= (index - 1) / index * cosine**2
        total += term
    if not odd:
        return 0.5 + math.sin(theta) * total / 2
    if degrees == 1:
        total = 0.0
    return 0.5 + (theta + math.sin(theta) * total) / math.pi
