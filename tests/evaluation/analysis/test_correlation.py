"""Correlations are those of the textbook, and their intervals hold the truth as often as they say."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.evaluation.analysis.rollout_files import analysis_of, ours, write

from holdfast.evaluation.analysis.correlation import Correlation, correlate
from holdfast.evaluation.analysis.groups import Rollouts, group
from holdfast.evaluation.analysis.reading import Table

Rows = list[tuple[int, int, float]]
"""(prompt, x, reward)"""


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float:
    mean_x, mean_y = fmean(xs), fmean(ys)
    products = [(x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)]
    return math.fsum(products) / math.sqrt(sum((x - mean_x) ** 2 for x in xs) * sum((y - mean_y) ** 2 for y in ys))


def ranks(values: Sequence[float]) -> list[float]:
    """Of equal values the mean rank."""
    return [sum(other < each for other in values) + (sum(other == each for other in values) + 1) / 2 for each in values]


def within(rows: Rows) -> float:
    by_prompt = {prompt: [row for row in rows if row[0] == prompt] for prompt, _, _ in rows}
    kept = {prompt: found for prompt, found in by_prompt.items() if len(found) > 1}
    xs = [x - fmean(row[1] for row in found) for found in kept.values() for _, x, _ in found]
    ys = [y - fmean(row[2] for row in found) for found in kept.values() for _, _, y in found]
    return pearson(xs, ys)


def draw_rows(draw: random.Random, prompts: int, repeats: int = 4) -> Rows:
    """Counts and rewards, both with ties, that vary more between prompts than within them."""
    rows = []
    for prompt in range(prompts):
        level, other = draw.gauss(0, 1), draw.gauss(0, 0.5)
        for _ in range(repeats):
            x = max(0, round(3 + level + draw.gauss(0, 1)))
            rows.append((prompt, x, float(round(0.5 * level + other + 0.2 * x + draw.gauss(0, 1)))))
    return rows


def rollouts_of(rows: Rows) -> Rollouts:
    """Without a detour by files, which takes longer than what is tested."""
    table = Table()
    count = len(rows)
    table.prompt.extend_plain([table.ids[str(prompt)] for prompt, _, _ in rows])
    table.repeat.extend_plain(list(range(count)))
    table.reward.extend([reward for _, _, reward in rows])
    table.tools.extend([x for _, x, _ in rows])
    for column in (table.finish, table.standing):
        column.extend_plain([0] * count)
    for column in (table.steps, table.turns, table.prompt_tokens, table.completion_tokens):
        column.extend([None] * count)
    table.seconds.extend([math.nan] * count)
    table.finishes["stop"], table.standings[(True, False, 1)]
    return group(table)


def found_in(rows: Rows, step: int = 1 << 18) -> dict[str, Correlation]:
    rollouts = rollouts_of(rows)
    return {each.kind: each for each in correlate(rollouts, rollouts.tools, step)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [1 << 18, 7])
def test_values_are_those_of_the_textbook(seed: int, step: int) -> None:
    rows = [*draw_rows(random.Random(seed), 15), (99, 7, 2.0)]
    found = found_in(rows, step)
    xs, ys = [float(x) for _, x, _ in rows], [y for _, _, y in rows]
    assert found["pearson"].value == pytest.approx(pearson(xs, ys))
    assert found["spearman"].value == pytest.approx(pearson(ranks(xs), ranks(ys)))
    assert found["within"].value == pytest.approx(within(rows))
    assert [(each.n_rollouts, each.n_prompts) for each in found.values()] == [(61, 16), (61, 16), (60, 15)]


@pytest.mark.parametrize("prompts", [30, 100])
def test_intervals_hold_the_truth_as_often_as_they_say(prompts: int) -> None:
    truth = {kind: each.value for kind, each in found_in(draw_rows(random.Random(0), 12_000)).items()}
    draw, times = random.Random(1), 250
    held = dict.fromkeys(truth, 0)
    for _ in range(times):
        for kind, each in found_in(draw_rows(draw, prompts)).items():
            assert each.low is not None and each.high is not None
            held[kind] += each.low <= truth[kind] <= each.high
    assert all(0.9 <= count / times <= 0.99 for count in held.values()), held


def test_repeats_of_a_prompt_are_no_new_evidence() -> None:
    rows = draw_rows(random.Random(2), 40, repeats=1)
    once, often = found_in(rows), found_in([row for row in rows for _ in range(20)])
    for kind in ("pearson", "spearman"):
        widths = [(each.high or 0) - (each.low or 0) for each in (once[kind], often[kind])]
        assert widths[0] == pytest.approx(widths[1], rel=1e-6)


def test_what_does_not_vary_has_no_correlation() -> None:
    assert found_in([(prompt, 3, float(prompt)) for prompt in range(9)]) == {}
    assert found_in([(prompt, prompt, 0.1) for prompt in range(9)]) == {}
    assert found_in([(0, 1, 1.0), (1, 2, 0.0)]) == {}


def test_what_is_one_line_has_no_interval() -> None:
    found = found_in([(prompt, prompt, 2.0 * prompt) for prompt in range(9)])
    assert found["pearson"].value == pytest.approx(1) and found["pearson"].low is None
    assert found["spearman"].value == pytest.approx(1) and found["spearman"].high is None


def test_only_rollouts_whose_calls_were_counted_are_correlated(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [ours(f"p{number}", 0, number % 5, tool_calls=number % 4) for number in range(40)]
    rows += [ours(f"p{number}", 1, 99.0) for number in range(40)]
    found = analysis_of(write(tmp_path / "a.jsonl", rows)).content["correlations"]
    tools = next(each for each in found if (each["x"], each["kind"]) == ("tool calls", "pearson"))
    assert tools["n_rollouts"] == 40 and abs(tools["value"]) < 0.2
