"""What k rollouts of a prompt would give, for many prompts at once: avg@n, pass@k, pass^k, maj@k, best@k.

The estimators are those of `evaluation.subsets`. Here prompts that agree in what counts (how many rollouts, how many of
them right, how many for each answer) are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

from holdfast.evaluation.analysis.groups import STEP, Array, Rollouts
from holdfast.evaluation.intervals import FEW, Interval, bootstrap_interval, mean_interval, wilson
from holdfast.evaluation.metrics import default_ks
from holdfast.evaluation.subsets import DRAWS, Majority, majority_at, pass_all, pass_at

MANY = 1000
"""Prompts, from which on a mean is normal enough and nothing is resampled."""
RARE = 10
"""Successes, or failures, below which a share is rare."""


def choose_ks(rollouts: Rollouts, given: Sequence[int] = ()) -> list[int]:
    """Powers of 2 up to the most rollouts that a prompt has, and that; of `given` those that some prompt has."""
    most = int(rollouts.counts.max(initial=0))
    return [k for k in sorted(set(given)) if 1 <= k <= most] if given else default_ks(most)


def measure(rollouts: Rollouts, ks: Sequence[int]) -> list[dict[str, Any]]:
    """Every metric that the rewards allow, with its interval and the number of prompts that have enough rollouts.

    `avg@n` is the mean reward, `success@1` the share of rollouts that succeed, each as a mean over prompts.
    """
    is_binary = bool(((rollouts.reward == 0) | (rollouts.reward == 1)).all())
    trials = is_binary and int(rollouts.counts.max(initial=0)) == 1
    most = int(rollouts.counts.max(initial=0))
    found = [
        _as_metric(f"avg@{most}", most, mean_of(rollouts, rollouts.reward, trials=trials)),
        _as_metric("success@1", 1, mean_of(rollouts, rollouts.success, trials=most == 1)),
    ]
    for name, kind in (("pass@", pass_at), ("pass^", pass_all)):
        found += [_as_metric(f"{name}{k}", k, interval(_passes(rollouts, k, kind))) for k in ks]
    if rollouts.answers is not None:
        found += [_majority_metric(rollouts, k) for k in ks]
    if not is_binary:
        best = best_of_each(rollouts, ks)
        found += [_as_metric(f"best@{k}", k, interval(best[k])) for k in ks]
    return found


def mean_of(rollouts: Rollouts, values: Array, chosen: Array | None = None, *, trials: bool = False) -> Interval:
    """The mean over prompts of the mean over rollouts. `trials`: each prompt has one, right or wrong."""
    _, means = rollouts.means(values, chosen)
    if len(means) < MANY or trials:
        return mean_interval(means.tolist(), trials=trials)
    return _of_many(means)


def interval(values: Array) -> Interval:
    """Of the mean of one value for each prompt, whose distribution may be far from normal."""
    if len(values) < FEW:
        return mean_interval(values.tolist(), trials=False)
    if len(values) >= MANY or _is_rare(values):
        return _of_many(values)
    return bootstrap_interval(values.tolist())


def _of_many(values: Array) -> Interval:
    return _of_rare(values) if _is_rare(values) else mean_interval(values.tolist(), trials=False)


def _is_rare(values: Array) -> bool:
    """Whether shares are so near to 0 or 1 that neither the normal distribution nor resampling says how far off they
    may be.
    """
    share = float(values.mean())
    is_share = bool((values >= 0).all() and (values <= 1).all())
    return is_share and 0 < share < 1 and len(values) * min(share, 1 - share) < RARE


def _of_rare(values: Array) -> Interval:
    """Wilson's interval, of as many trials as give the spread that the values have."""
    share, count = float(values.mean()), len(values)
    error = float(values.var(ddof=1)) / count
    trials = max(float(count), share * (1 - share) / error) if error else float(count)
    return Interval(share, *wilson(share, trials, NormalDist().inv_cdf(0.975)), count, "wilson")


def _as_metric(name: str, k: int, found: Interval) -> dict[str, Any]:
    return {"name": name, "k": k, **found.as_json()}


def right_of_each(rollouts: Rollouts) -> Array:
    """Successes of each prompt."""
    return rollouts.sums(None, rollouts.success)


def _passes(rollouts: Rollouts, k: int, kind: Any) -> Array:
    """pass@k or pass^k of each prompt that has k rollouts."""
    import numpy

    counts, right = rollouts.counts, right_of_each(rollouts)
    enough = counts >= k
    pairs, places = numpy.unique(numpy.stack([right[enough], counts[enough]]), axis=1, return_inverse=True)
    values = numpy.array([kind(k, int(one), int(total)) for one, total in pairs.T])
    return values[places.reshape(-1)]


def best_of_each(rollouts: Rollouts, ks: Sequence[int], step: int = STEP) -> dict[int, Array]:
    """For each k the best@k of each prompt that has k rollouts, in the order of the prompts; about `step` rollouts
    are taken at a time.
    """
    import numpy

    counts = rollouts.counts
    found = {k: numpy.zeros(len(counts)) for k in ks}
    for first, last in _blocks(counts, step):
        sizes = counts[first:last]
        starts = numpy.cumsum(sizes) - sizes
        at = int(counts[:first].sum())
        rows = slice(at, at + int(sizes.sum()))
        rewards = rollouts.reward[rows]
        rewards = rewards[numpy.lexsort((-rewards, rollouts.prompt[rows]))]
        for total in numpy.unique(sizes).tolist():
            chosen = numpy.flatnonzero(sizes == total)
            ordered = rewards[starts[chosen][:, None] + numpy.arange(total)]
            for k in (k for k in ks if k <= total):
                weights = numpy.array(_best_weights(k, total))
                found[k][first + chosen] = (ordered[:, : len(weights)] * weights).sum(axis=1)
    return {k: values[counts >= k] for k, values in found.items()}


def _blocks(counts: Array, step: int) -> Iterator[tuple[int, int]]:
    """Ranges of prompts, with about `step` rollouts each, or those of one prompt that has more."""
    import numpy

    ends = numpy.cumsum(counts)
    first = 0
    while first < len(counts):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(numpy.searchsorted(ends, before + step, side="right")))
        yield first, last
        first = last


def _best_weights(k: int, total: int) -> list[float]:
    """Of the rewards of a prompt, from the largest down: the share of the subsets of k of which each is the largest."""
    weights, left = [], 1.0
    for place in range(total - k + 1):
        share = k / (total - place)
        weights.append(left * share)
        left *= 1 - share
    return weights


def _majority_metric(rollouts: Rollouts, k: int) -> dict[str, Any]:
    values, drawn = majority_of_each(rollouts, k)
    how = "exact" if not drawn else f"{DRAWS} subsets drawn for {drawn} of {len(values)} prompts"
    return {**_as_metric(f"maj@{k}", k, interval(values)), "subsets": how}


def majority_of_each(rollouts: Rollouts, k: int) -> tuple[Array, int]:
    """maj@k of each prompt that has k rollouts, and of how many it was estimated by drawing."""
    import numpy

    if rollouts.answers is None:
        raise ValueError("no rollout has an answer: there is no majority")
    counts, starts = rollouts.counts, numpy.concatenate([[0], numpy.cumsum(rollouts.counts)])
    known: dict[Any, Majority] = {}
    found = []
    for number in numpy.flatnonzero(counts >= k).tolist():
        rows = slice(int(starts[number]), int(starts[number + 1]))
        votes = sorted(_votes(rollouts.reward[rows].tolist(), rollouts.answers[rows].tolist()))
        signature = tuple(votes)
        if signature not in known:
            rewards = [reward for _, given in votes for reward in given]
            answers = [name or None for name, given in votes for _ in given]
            known[signature] = majority_at(k, rewards, answers, f"0:{len(known)}")
        found.append(known[signature])
    return numpy.array([each.value for each in found]), sum(not each.exact for each in found)


def _votes(rewards: Sequence[float], answers: Sequence[int]) -> list[tuple[str, tuple[float, ...]]]:
    """The rewards of each answer, under names that two prompts with the same votes share; the silent have none."""
    by_answer: dict[int, list[float]] = {}
    for reward, answer in zip(rewards, answers, strict=True):
        by_answer.setdefault(answer, []).append(reward)
    silent = tuple(sorted(by_answer.pop(0, ())))
    given = sorted((tuple(sorted(each)) for each in by_answer.values()), key=lambda each: (len(each), each))
    return ([("", silent)] if silent else []) + [(f"{place:06d}", each) for place, each in enumerate(given)]


def variance(rollouts: Rollouts) -> dict[str, float] | None:
    """As `evaluation.intervals.variance_parts`: between prompts and within them; None where nothing can be said."""
    import numpy

    counts = rollouts.counts[rollouts.counts > 0].astype(float)
    total, groups = float(counts.sum()), len(counts)
    if groups < 2 or total == groups:
        return None
    _, means = rollouts.means(rollouts.reward)
    every = numpy.zeros(len(rollouts.ids))
    every[rollouts.counts > 0] = means
    within = sum_in_steps(rollouts, lambda rows: (rollouts.reward[rows] - every[rollouts.prompt[rows]]) ** 2)
    within /= total - groups
    usual = (total - float((counts**2).sum()) / total) / (groups - 1)
    everything = float((counts * means).sum()) / total
    outside = float((counts * (means - everything) ** 2).sum())
    between = max(0.0, (outside / (groups - 1) - within) / usual)
    repeats = within * float((1 / counts).mean())
    if not within + between:
        return {"between": 0.0, "within": 0.0, "icc": 0.0, "from_repeats": 0.0}
    shares = {"icc": between / (between + within), "from_repeats": repeats / (between + repeats)}
    return {"between": between, "within": within, **shares}


def sum_in_steps(rollouts: Rollouts, term: Any) -> float:
    """The sum of what `term` gives for slices of the rollouts."""
    return math.fsum(float(term(slice(at, at + STEP)).sum()) for at in range(0, len(rollouts), STEP))
