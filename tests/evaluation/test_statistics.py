"""Intervals that are too narrow announce gains that are not there."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.evaluation.statistics import (
    accuracy,
    estimate_mean,
    paired_gain,
    pooled_gain,
    t_distribution,
    t_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281), (29, 2.0452), (1000, 1.9623)]
)
def test_quantiles_are_those_of_the_printed_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-5)


@given(st.integers(1, 400), st.floats(0, 30))
def test_the_distribution_is_one(degrees: int, value: float) -> None:
    assert 0.5 <= t_distribution(value, degrees) <= 1 + 1e-12


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(0)
    inside = 0
    for _ in range(2000):
        chances = [rng.betavariate(2, 1) for _ in range(12)]
        rewards = {str(i): [float(rng.random() < p) for _ in range(4)] for i, p in enumerate(chances)}
        found = accuracy(rewards)
        inside += found.low <= 2 / 3 <= found.high
    assert 0.92 < inside / 2000 < 0.975


def test_repeats_of_one_prompt_do_not_narrow_the_interval() -> None:
    once = accuracy({"a": [0.0], "b": [1.0], "c": [1.0]})
    assert accuracy({"a": [0.0] * 50, "b": [1.0] * 50, "c": [1.0] * 50}) == once


def test_the_unit_is_the_prompt_however_many_repeats_it_has() -> None:
    assert accuracy({"a": [1.0, 1.0, 1.0, 1.0], "b": [0.0]}).value == 0.5


def test_one_prompt_says_nothing_of_its_interval() -> None:
    assert (accuracy({"a": [1.0]}).low, accuracy({"a": [1.0]}).high) == (-math.inf, math.inf)


def test_a_gain_on_every_prompt_is_certain_although_the_prompts_differ() -> None:
    before = {str(i): [i / 10] for i in range(8)}
    gain = paired_gain(before, {prompt: [values[0] + 0.2] for prompt, values in before.items()})
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))


def test_gains_of_different_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        paired_gain({"a": [1.0]}, {"b": [1.0]})


def test_runs_are_pooled_with_equal_weight() -> None:
    before = {"a": [0.0], "b": [0.0]}
    runs = [{"a": [1.0], "b": [1.0, 1.0]}, {"a": [0.0, 0.0, 0.0], "b": [0.0]}]
    assert pooled_gain(before, runs).value == 0.5


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        estimate_mean([])
