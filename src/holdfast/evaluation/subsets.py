"""What k responses to one prompt would give, estimated without bias from the n >= k that there are.

Each number is the mean over all subsets of k of the n responses, in closed form where there is one:

    pass@k   at least one is right
    pass^k   all are right
    best@k   the mean of the largest reward: pass@k for rewards that are not 0 or 1
    maj@k    the reward of the answer that most of them give; of answers that tie, the mean

pass@k is as in Chen et al., "Evaluating Large Language Models Trained on Code" (2021), arXiv:2107.03374; pass^k as in
Yao et al., "tau-bench" (2024), arXiv:2406.12045.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from math import comb
from statistics import fmean
from typing import NamedTuple

CHEAP = 200_000
"""Steps of the exact sum over subsets, above which they are drawn instead."""
DRAWS = 2000


def pass_at(k: int, right: int, total: int) -> float:
    """1 - C(total - right, k) / C(total, k), as a product that neither overflows nor cancels.

    Raises:
        ValueError: k is not between 1 and `total`, or `right` not between 0 and `total`.
    """
    _check(k, right, total)
    if total - right < k:
        return 1.0
    missed = 1.0
    for size in range(total - right + 1, total + 1):
        missed *= 1 - k / size
    return 1 - missed


def pass_all(k: int, right: int, total: int) -> float:
    """C(right, k) / C(total, k). Raises as `pass_at` does."""
    _check(k, right, total)
    found = 1.0
    for index in range(k):
        found *= max(0, right - index) / (total - index)
    return found


def best_at(k: int, rewards: Sequence[float]) -> float:
    """The mean of the largest of k rewards: in order, the i-th is the largest of C(i - 1, k - 1) subsets. Raises as
    `pass_at` does.
    """
    total = len(rewards)
    _check(k, 0, total)
    weight, found = 1.0, 0.0
    # From the largest down: it is in k of n subsets, and each next one is the largest of a share of the others.
    for place, reward in enumerate(sorted(rewards, reverse=True)):
        left = total - place
        share = k / left if left > k else 1.0
        found += weight * share * reward
        weight *= 1 - share
        if left <= k:
            break
    return found


class Majority(NamedTuple):
    """`exact`: summed over all subsets; otherwise the mean of `DRAWS` that were drawn."""

    value: float
    exact: bool


def majority_at(k: int, rewards: Sequence[float], answers: Sequence[str | None], seed: int | str = 0) -> Majority:
    """The expected reward of the most frequent answer among k. A response without an answer has no vote, and k without
    any vote are worth 0. Raises as `pass_at` does.
    """
    _check(k, 0, len(rewards))
    worth: dict[str, list[float]] = defaultdict(list)
    for reward, answer in zip(rewards, answers, strict=True):
        if answer is not None:
            worth[answer].append(reward)
    counts = tuple(sorted(map(len, worth.values())))
    if _cost(k, counts) > CHEAP:
        return Majority(_draw_majority(k, rewards, answers, seed), exact=False)
    wins = _win_shares(k, counts, len(rewards) - sum(counts))
    return Majority(sum(fmean(found) * wins[len(found)] for found in worth.values()), exact=True)


def _check(k: int, right: int, total: int) -> None:
    if not 1 <= k <= total or not 0 <= right <= total:
        raise ValueError(f"{k} of {total} responses, {right} of them right: there are no such subsets")


def _cost(k: int, counts: tuple[int, ...]) -> int:
    """About how many products `_win_shares` takes."""
    return sum(min(k, each) for each in set(counts)) * len(counts) * k * k


@lru_cache(maxsize=4096)
def _win_shares(k: int, counts: tuple[int, ...], silent: int) -> dict[int, float]:
    """For an answer that `count` responses give: its expected share in the win, 1/j where j answers tie.

    It wins with t votes in C(count, t) ways, times those of the others to have at most t votes each, so many of them
    exactly t, times those of the silent to fill up the subset. Equal counts have equal shares.
    """
    everything = comb(sum(counts) + silent, k)
    found = {}
    for count in set(counts):
        others = list(counts)
        others.remove(count)
        share = 0.0
        for votes in range(1, min(count, k) + 1):
            for (taken, ties), ways in _ways(others, votes, k - votes).items():
                subsets = ways * comb(count, votes) * comb(silent, k - votes - taken)
                share += subsets / everything / (ties + 1)
        found[count] = share
    return found


def _ways(counts: Sequence[int], most: int, room: int) -> dict[tuple[int, int], int]:
    """In how many ways answers take so many of `room` places, each at most `most`, so many exactly that: by (places,
    ties).
    """
    ways = {(0, 0): 1}
    for count in counts:
        following: dict[tuple[int, int], int] = defaultdict(int)
        for (taken, ties), before in ways.items():
            for votes in range(min(count, most, room - taken) + 1):
                following[taken + votes, ties + (votes == most)] += before * comb(count, votes)
        ways = following
    return ways


def _draw_majority(k: int, rewards: Sequence[float], answers: Sequence[str | None], seed: int | str) -> float:
    draw = random.Random(f"{seed}:{k}")
    responses = list(zip(answers, rewards, strict=True))
    return fmean(_vote(draw.sample(responses, k)) for _ in range(DRAWS))


def _vote(chosen: Sequence[tuple[str | None, float]]) -> float:
    votes = Counter(answer for answer, _ in chosen if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, count in votes.items() if count == most]
    return fmean(fmean(reward for answer, reward in chosen if answer == winner) for winner in winners)
