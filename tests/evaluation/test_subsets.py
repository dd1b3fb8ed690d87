"""pass@k and maj@k that are not the mean over all subsets rank models by luck."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.evaluation import subsets
from holdfast.evaluation.subsets import best_at, majority_at, pass_all, pass_at

RESPONSES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([None, "a", "b", "c"])), min_size=1, max_size=8
)


def vote(chosen: Sequence[tuple[float, str | None]]) -> float:
    """The rule of majorities, spelled out."""
    votes = Counter(answer for _, answer in chosen if answer)
    if not votes:
        return 0.0
    winners = [answer for answer in votes if votes[answer] == max(votes.values())]
    return fmean(fmean(reward for reward, answer in chosen if answer == winner) for winner in winners)


@given(RESPONSES, st.data())
def test_all_are_the_means_over_all_subsets(responses: list[tuple[float, str | None]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(responses)))
    rewards, answers = [reward for reward, _ in responses], [answer for _, answer in responses]
    right, total = int(sum(rewards)), len(rewards)
    groups = list(combinations(responses, k))
    assert pass_at(k, right, total) == pytest.approx(fmean(any(r for r, _ in group) for group in groups))
    assert pass_all(k, right, total) == pytest.approx(fmean(all(r for r, _ in group) for group in groups))
    assert best_at(k, rewards) == pytest.approx(fmean(max(r for r, _ in group) for group in groups))
    found = majority_at(k, rewards, answers)
    assert found.exact and found.value == pytest.approx(fmean(map(vote, groups)))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_best_of_real_rewards_is_the_mean_over_all_subsets(rewards: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(rewards)))
    assert best_at(k, rewards) == pytest.approx(fmean(map(max, combinations(rewards, k))), abs=1e-12)


def test_large_numbers_neither_overflow_nor_cancel() -> None:
    wanted = 1 - math.comb(9999, 5000) / math.comb(10000, 5000)
    assert pass_at(5000, 1, 10000) == pytest.approx(wanted, rel=1e-12)
    assert 0 < pass_all(64, 1000, 2000) < 1e-18


def test_drawn_majorities_are_near_the_exact_ones_and_say_that_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["a"] * 5 + ["b"] * 4 + ["c"] * 2 + [None] * 3
    rewards = [1.0] * 5 + [0.0] * 9
    exact = majority_at(6, rewards, answers)
    monkeypatch.setattr(subsets, "CHEAP", 0)
    drawn = majority_at(6, rewards, answers, seed=3)
    assert exact.exact and not drawn.exact
    assert drawn.value == pytest.approx(exact.value, abs=0.04)
    assert majority_at(6, rewards, answers, seed=3) == drawn


def test_hundreds_of_different_answers_are_not_summed_for_ever() -> None:
    answers: list[str | None] = [str(number // 3) for number in range(256)]
    assert majority_at(64, [1.0] * 3 + [0.0] * 253, answers).value < 0.1


@pytest.mark.parametrize(("k", "right", "total"), [(0, 0, 4), (5, 0, 4), (1, 5, 4), (1, -1, 4)])
def test_more_than_there_is_is_refused(k: int, right: int, total: int) -> None:
    with pytest.raises(ValueError, match="no such subsets"):
        pass_at(k, right, total)
