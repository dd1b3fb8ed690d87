"""Intervals that claim more than they hold announce differences that are not there, and hide none that are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest

from holdfast.evaluation.comparison import holm, mcnemar, newcombe, paired_difference
from holdfast.evaluation.intervals import bootstrap_interval, mean_interval, variance_parts, wilson
from holdfast.evaluation.subsets import pass_at


def chances(draw: random.Random, prompts: int, alpha: float, beta: float) -> list[float]:
    return [draw.betavariate(alpha, beta) for _ in range(prompts)]


def repeated(draw: random.Random, chance: float, repeats: int) -> int:
    return sum(draw.random() < chance for _ in range(repeats))


def covered(times: int, once: Callable[[random.Random], bool]) -> float:
    """How often an interval held the truth."""
    draw = random.Random(1)
    return fmean(once(draw) for _ in range(times))


def test_wilson_is_that_of_the_textbooks() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    assert wilson(81 / 263, 263, 1.959964) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148, 1.959964) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20, 1.959964) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(1, 29, 1.959964) == pytest.approx((0.8830, 1), abs=5e-5)


@pytest.mark.parametrize(("prompts", "chance"), [(10, 0.9), (20, 0.5), (200, 0.97), (500, 0.3)])
def test_one_response_each_is_covered_as_often_as_is_said(prompts: int, chance: float) -> None:
    def once(draw: random.Random) -> bool:
        found = mean_interval([float(draw.random() < chance) for _ in range(prompts)], trials=True)
        return found.low <= chance <= found.high

    assert 0.92 < covered(2000, once) < 0.99


@pytest.mark.parametrize(
    ("prompts", "alpha", "beta"), [(8, 2.0, 1.0), (20, 0.5, 0.1), (20, 3.0, 3.0), (60, 0.5, 0.5), (200, 2.0, 8.0)]
)
def test_repeats_are_covered_as_often_as_is_said(prompts: int, alpha: float, beta: float) -> None:
    def once(draw: random.Random) -> bool:
        values = [repeated(draw, chance, 4) / 4 for chance in chances(draw, prompts, alpha, beta)]
        found = mean_interval(values, trials=False)
        return found.low <= alpha / (alpha + beta) <= found.high

    assert 0.92 < covered(1500, once) < 0.99


def test_pass_at_k_is_covered_as_often_as_is_said() -> None:
    # E[1 - (1 - p)^4] for p from Beta(1, 2) is 1 - 2/6.
    def once(draw: random.Random) -> bool:
        values = [pass_at(4, repeated(draw, chance, 8), 8) for chance in chances(draw, 80, 1, 2)]
        found = bootstrap_interval(values, seed=draw.getrandbits(20))
        assert found.method == "bootstrap"
        return found.low <= 1 - 2 / 6 <= found.high

    assert 0.91 < covered(300, once) < 0.985


@pytest.mark.soak
@pytest.mark.parametrize("prompts", [5, 10, 20, 29, 30, 50, 100, 500])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.3), (1.0, 9.0), (9.0, 1.0), (5.0, 5.0)])
@pytest.mark.parametrize("repeats", [2, 8])
def test_coverage_holds_across_sizes_and_difficulties(prompts: int, alpha: float, beta: float, repeats: int) -> None:
    def once(draw: random.Random) -> bool:
        values = [repeated(draw, chance, repeats) / repeats for chance in chances(draw, prompts, alpha, beta)]
        found = mean_interval(values, trials=False)
        return found.low <= alpha / (alpha + beta) <= found.high

    assert covered(4000, once) > 0.9


def test_all_right_is_no_certainty() -> None:
    for prompts in (1, 20, 500):
        found = mean_interval([1.0] * prompts, trials=True)
        assert (found.value, found.high, found.method) == (1, 1, "wilson") and found.low < 1
        assert found.low == mean_interval([1.0] * prompts, trials=False).low == bootstrap_interval([1.0] * prompts).low


def test_rewards_that_are_no_shares_have_students_interval() -> None:
    found = mean_interval([-3.0, 4.0, 7.0], trials=False)
    assert found.method == "t" and found.low < -3


def test_resampling_is_the_same_every_time() -> None:
    values = [number / 50 for number in range(50)]
    assert (
        bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    )


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        mean_interval([], trials=True)
    with pytest.raises(ValueError, match="no prompts"):
        bootstrap_interval([])


def test_variance_is_split_as_it_was_made() -> None:
    draw = random.Random(0)
    rewards = []
    for _ in range(4000):
        level = draw.gauss(0, 2)
        rewards.append([level + draw.gauss(0, 1) for _ in range(draw.choice((3, 4, 5)))])
    found = variance_parts(rewards)
    assert found
    assert (found.between, found.within, found.icc) == pytest.approx((4, 1, 0.8), rel=0.06)
    assert found.from_repeats == pytest.approx(0.26 / 4.26, rel=0.1)
    assert variance_parts([[1.0], [0.0]]) is None
    assert variance_parts([[1.0, 1.0], [1.0, 1.0]]) == (0, 0, 0, 0)


def binary(draw: random.Random, prompts: int, gain: float) -> tuple[dict[str, float], dict[str, float]]:
    """Right or wrong of two models that share how hard a prompt is."""
    level = [0.1 + 0.7 * draw.random() for _ in range(prompts)]
    before = {str(i): float(draw.random() < chance) for i, chance in enumerate(level)}
    return before, {str(i): float(draw.random() < chance + gain) for i, chance in enumerate(level)}


@pytest.mark.parametrize(("prompts", "gain"), [(20, 0.0), (100, 0.1), (400, 0.05)])
def test_paired_differences_are_covered_as_often_as_is_said(prompts: int, gain: float) -> None:
    def once(draw: random.Random) -> bool:
        found = paired_difference(*binary(draw, prompts, gain), trials=True)
        return found.low <= gain <= found.high

    assert 0.92 < covered(1000, once) < 0.99


def test_differences_that_are_not_there_are_announced_as_seldom_as_is_said() -> None:
    def announced(draw: random.Random) -> bool:
        return paired_difference(*binary(draw, 60, 0.0), trials=True).p < 0.05

    assert covered(1500, announced) < 0.055


def test_what_is_called_detectable_is_found_four_times_of_five() -> None:
    draw = random.Random(5)
    detectable = fmean(paired_difference(*binary(draw, 200, 0.0), trials=True).detectable for _ in range(20))

    def found(draw: random.Random) -> bool:
        return paired_difference(*binary(draw, 200, detectable), trials=False).p < 0.05

    assert 0.72 < covered(600, found) < 0.88


def test_newcombe_and_mcnemar_are_those_of_the_papers() -> None:
    # Newcombe (1998), table II, method 10: 36 both, 12 and 2 one of them, 0 none; 1 - 2.
    pairs = [(1.0, 1.0)] * 36 + [(0.0, 1.0)] * 12 + [(1.0, 0.0)] * 2
    assert newcombe(pairs) == pytest.approx((0.0569, 0.3404), abs=1e-3)
    assert mcnemar(pairs) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert mcnemar([(1.0, 1.0)] * 9) == 1


def test_no_spread_is_no_certainty() -> None:
    same = {str(i): 0.5 for i in range(10)}
    found = paired_difference(same, same, trials=False)
    assert found.low < 0 < found.high and found.p == 1 and found.detectable > 0.2
    alone = paired_difference({"a": 0.0}, {"a": 1.0}, trials=False)
    assert alone.low < 1 and alone.p == 1


def test_only_common_prompts_count() -> None:
    found = paired_difference({"a": 0.0, "b": 1.0, "x": 1.0}, {"a": 1.0, "b": 1.0, "y": 0.0}, trials=False)
    assert (found.value, found.n_prompts) == (0.5, 2)
    with pytest.raises(ValueError, match="no prompt is in both"):
        paired_difference({"a": 1.0}, {"b": 1.0}, trials=True)


def test_holm_is_that_of_the_textbook_and_never_smaller_than_what_it_was_given() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    values: Sequence[float] = [0.5, 0.9]
    assert all(adjusted >= value for adjusted, value in zip(holm(values), values, strict=True))
    assert not math.isnan(holm([1.0])[0])
