"""Every number of the report is what enumeration and a plain loop give on small data."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pytest
from tests.evaluation.analysis.rollout_files import Row, analysis_of, failure, ours, write

from holdfast.core import files
from holdfast.evaluation.analysis.coverage import Expected
from holdfast.evaluation.analysis.distribution import BARS, edges_between
from holdfast.evaluation.analysis.groups import group
from holdfast.evaluation.analysis.prompts import natural
from holdfast.evaluation.analysis.reading import read
from holdfast.evaluation.analysis.repeats import best_of_each
from holdfast.evaluation.analysis.summary import summarise
from holdfast.evaluation.intervals import mean_interval, variance_parts
from holdfast.evaluation.statistics import accuracy, t_distribution, t_quantile
from holdfast.evaluation.subsets import best_at


def drawn(seed: int, prompts: int = 12, most: int = 6, binary: bool = False) -> list[Row]:
    """Rollouts of prompts with 1 to `most` repeats each, in any order."""
    draw = random.Random(seed)
    rows = []
    for prompt in range(prompts):
        level = draw.random()
        for repeat in range(draw.randrange(1, most + 1)):
            right = draw.random() < level
            reward = float(right) if binary else round(10 * right - draw.randrange(1, 9) / 10, 1)
            more = {
                "tool_calls": draw.randrange(4),
                "answer": draw.choice(["a", "b", None]),
                "tries": draw.choice([1, 1, 2]),
            }
            more["finish"] = draw.choice(["stop", "stop", "length"])
            rows.append(ours(f"p{prompt}", repeat, reward, success=right, **more))
    draw.shuffle(rows)
    return rows


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["id"]].append(row)
    return found


def vote(rows: Sequence[Row]) -> float:
    votes = Counter(row["answer"] for row in rows if row["answer"] is not None)
    if not votes:
        return 0.0
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return fmean(fmean(row["reward"] for row in rows if row["answer"] == winner) for winner in winners)


KINDS: dict[str, Callable[[Sequence[Row]], float]] = {
    "pass@": lambda rows: any(row["success"] for row in rows),
    "pass^": lambda rows: all(row["success"] for row in rows),
    "best@": lambda rows: max(row["reward"] for row in rows),
    "maj@": vote,
}


def enumerated(kind: str, k: int, rows: Sequence[Row]) -> list[float]:
    """The mean over all subsets of k, of each prompt that has so many."""
    return [fmean(map(KINDS[kind], combinations(each, k))) for each in grouped(rows).values() if len(each) >= k]


@pytest.mark.parametrize("seed", range(6))
def test_metrics_are_the_means_over_all_subsets(tmp_path: Path, seed: int) -> None:
    rows = drawn(seed, binary=seed % 2 == 1)
    content = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    seen = set()
    for each in content["metrics"][2:]:
        kind = each["name"].rstrip("0123456789")
        values = enumerated(kind, each["k"], rows)
        seen.add(kind)
        assert (each["value"], each["n_prompts"]) == (pytest.approx(fmean(values)), len(values)), each["name"]
        assert each["low"] is None or each["low"] <= each["value"] <= each["high"]
    assert seen == set(KINDS) - ({"best@"} if seed % 2 else set())


@pytest.mark.parametrize("step", [1, 5, 17])
def test_best_is_the_same_however_many_prompts_are_taken_at_a_time(tmp_path: Path, step: int) -> None:
    rows = drawn(2, prompts=30)
    rollouts = group(read([write(tmp_path / "a.jsonl", rows)]))
    for k, found in best_of_each(rollouts, [1, 2, 5], step).items():
        by_prompt = {prompt: [row["reward"] for row in each] for prompt, each in grouped(rows).items()}
        wanted = [best_at(k, by_prompt[prompt]) for prompt in rollouts.ids if len(by_prompt[prompt]) >= k]
        assert found.tolist() == pytest.approx(wanted)


def test_means_have_the_intervals_of_prompts(tmp_path: Path) -> None:
    rows = drawn(3, prompts=40)
    content = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    average, success = content["metrics"][:2]
    wanted = accuracy({prompt: [row["reward"] for row in each] for prompt, each in grouped(rows).items()})
    assert (average["value"], average["low"], average["high"]) == pytest.approx(wanted[:3])
    shares = [fmean(row["success"] for row in each) for each in grouped(rows).values()]
    assert (success["low"], success["high"]) == pytest.approx(mean_interval(shares, trials=False)[1:3])


def test_many_prompts_are_counted_as_few_are(tmp_path: Path) -> None:
    """Beyond a thousand prompts nothing is resampled: the interval stays what a longer computation gives."""
    rows = drawn(4, prompts=1100, most=4)
    content = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    by_name = {each["name"]: each for each in content["metrics"]}
    values = enumerated("best@", 2, rows)
    draw = random.Random(0)
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(600))
    assert by_name["best@2"]["value"] == pytest.approx(fmean(values))
    width = means[585] - means[15]
    assert by_name["best@2"]["high"] - by_name["best@2"]["low"] == pytest.approx(width, rel=0.12)


def test_what_is_rare_among_many_prompts_is_not_said_to_be_known(tmp_path: Path) -> None:
    rows = [ours(f"p{prompt}", 0, float(prompt < 2)) for prompt in range(1500)]
    found = analysis_of(write(tmp_path / "a.jsonl", rows)).content["metrics"][1]
    assert found["method"] == "wilson" and 0 < found["low"] < 2 / 1500 < 0.0045 < found["high"] < 0.006


def test_distribution_is_that_of_the_rows(tmp_path: Path) -> None:
    rows = drawn(5, prompts=30)
    content = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    rewards = [row["reward"] for row in rows]
    found = content["rewards"]
    assert (found["min"], found["max"], found["count"]) == (min(rewards), max(rewards), len(rewards))
    assert found["mean"] == pytest.approx(fmean(rewards)) and found["median"] == pytest.approx(median(rewards))
    assert found["sd"] == pytest.approx(stdev(rewards))
    assert content["success"]["rollouts"] == sum(row["success"] for row in rows)
    assert content["histogram"]["common"] == [
        {"reward": reward, "count": count}
        for reward, count in sorted(Counter(rewards).items(), key=lambda each: (-each[1], each[0]))[:20]
    ]
    assert content["lengths"]["completion tokens"]["sum"] == sum(row["usage"]["completion_tokens"] for row in rows)


@pytest.mark.parametrize("seed", range(4))
def test_every_rollout_is_in_one_bar(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    scale = 10 ** draw.uniform(-3, 90)
    rewards = [draw.gauss(0, scale) for _ in range(400)] + [0.0, 1.0]
    rows = [ours(str(number), 0, reward, success=reward > 0) for number, reward in enumerate(rewards)]
    bars = analysis_of(write(tmp_path / "a.jsonl", rows)).content["histogram"]["bars"]
    assert sum(bar["count"] for bar in bars) == len(rewards) and len(bars) <= BARS
    assert sum(bar["success"] for bar in bars) == sum(reward > 0 for reward in rewards)
    for bar in bars[1:-1]:
        assert bar["count"] == sum(bar["low"] <= reward < bar["high"] for reward in rewards)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1e-300, 1e-300), (0.1, 0.1000000001), (-1e99, 1e99), (5.0, 5e5)])
def test_edges_hold_everything(ends: tuple[float, float]) -> None:
    edges = edges_between(*ends)
    slack = (edges[-1] - edges[0]) * 1e-6
    assert edges == sorted(set(edges)) and edges[0] <= ends[0] + slack and edges[-1] >= ends[1] - slack


def test_groups_are_sorted_by_how_often_they_are_solved_and_by_what_they_teach(tmp_path: Path) -> None:
    wanted: dict[str, list[float]] = {
        "a": [0, 0, 0, 0],
        "b": [1, 0, 0, 0],
        "c": [1, 1, 0, 0],
        "d": [1, 1, 1, 0],
        "e": [1, 1, 1, 1],
    }
    wanted |= {"f": [1, 1, 1, 1, 1, 1, 1, 0], "g": [0], "h": [0.5, 0.5]}
    rows = [ours(name, repeat, float(each)) for name, rewards in wanted.items() for repeat, each in enumerate(rewards)]
    content = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    assert [band["prompts"] for band in content["difficulty"]] == [3, 1, 1, 1, 1, 1]
    assert [band["varies"] for band in content["difficulty"]] == [0, 1, 1, 1, 1, 0]
    groups = content["groups"]
    assert (groups["groups"], groups["zero_variance"], groups["all_succeed"], groups["all_fail"]) == (7, 3, 1, 2)
    assert (groups["success_differs"], groups["rollouts_with_signal"], groups["rollouts"]) == (4, 20, 30)


def test_rewards_that_differ_by_rounding_teach_nothing(tmp_path: Path) -> None:
    rows = [ours("p", 0, 0.1 + 0.2), ours("p", 1, 0.3), ours("q", 0, 0.0), ours("q", 1, 1e-12)]
    assert analysis_of(write(tmp_path / "a.jsonl", rows)).content["groups"]["zero_variance"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_variance_is_that_of_the_analysis_of_variance(tmp_path: Path, seed: int) -> None:
    rows = drawn(seed, prompts=20)
    found = analysis_of(write(tmp_path / "a.jsonl", rows)).content["variance"]
    wanted = variance_parts([[row["reward"] for row in each] for each in grouped(rows).values()])
    assert wanted and tuple(found.values()) == pytest.approx(tuple(wanted))


def test_breakdowns_are_means_over_prompts_of_the_rows_that_have_the_value(tmp_path: Path) -> None:
    rows = drawn(7)
    content = analysis_of(write(tmp_path / "a.jsonl", rows), by=("tries",)).content
    tables: list[tuple[str, list[tuple[Any, Any]]]] = [
        ("tool_calls", [(each["low"], each) for each in content["tools"]["by_calls"]]),
        ("finish", [(each["finish"], each) for each in content["finishes"]]),
        ("tries", [(int(each["value"]), each) for each in content["breakdowns"][0]["rows"]]),
    ]
    for name, table in tables:
        assert {value for value, _ in table} == {row[name] for row in rows}
        for value, each in table:
            chosen = grouped([row for row in rows if row[name] == value])
            assert (each["rollouts"], each["prompts"]) == (sum(map(len, chosen.values())), len(chosen))
            means = [fmean(row["reward"] for row in prompt) for prompt in chosen.values()]
            assert each["reward"]["value"] == pytest.approx(fmean(means))
            assert each["reward"]["low"] == pytest.approx(mean_interval(means, trials=False).low)


def test_many_numbers_of_tool_calls_are_put_into_ranges_that_hold_all(tmp_path: Path) -> None:
    rows = [ours(f"p{number}", 0, 0.5, tool_calls=number**2) for number in range(200)]
    table = analysis_of(write(tmp_path / "a.jsonl", rows)).content["tools"]["by_calls"]
    assert sum(each["rollouts"] for each in table) == 200 and len(table) <= 15
    assert (table[0]["low"], table[-1]["high"]) == (0, 199**2)
    assert all(before["high"] < after["low"] for before, after in pairwise(table))


def test_prompts_are_what_their_rows_say(tmp_path: Path) -> None:
    rows = drawn(8)
    analysis = analysis_of(write(tmp_path / "a.jsonl", rows))
    assert analysis.prompts
    found = {row[0]: row[1:] for row in analysis.prompts.rows()}
    assert found.keys() == grouped(rows).keys()
    for prompt, each in grouped(rows).items():
        rewards = [row["reward"] for row in each]
        count, mean, low, high, deviation, solved, tools, tokens, cut = found[prompt]
        assert (count, low, high) == (len(each), min(rewards), max(rewards))
        assert (mean, solved) == pytest.approx((fmean(rewards), fmean(row["success"] for row in each)))
        assert deviation == (pytest.approx(stdev(rewards)) if len(each) > 1 else None)
        assert tools == pytest.approx(fmean(row["tool_calls"] for row in each))
        assert tokens == pytest.approx(fmean(row["usage"]["completion_tokens"] for row in each))
        assert cut == pytest.approx(fmean(row["finish"] == "length" for row in each))


def test_what_is_missing_is_counted_by_what_became_of_it(tmp_path: Path) -> None:
    rows = [ours("p", 0, 1.0), ours("p", 1, 0.0), ours("q", 0, 1.0)]
    failures = [failure("p", 1), failure("q", 1), failure("q", 1, "server"), failure("q", 1, "server"), failure("r", 0)]
    content = analysis_of(write(tmp_path / "a.jsonl", [*failures, *rows]), prompts=4, repeats=2).content
    found = content["coverage"]
    counted = {name: found[name] for name in ("expected", "done", "missing", "failed", "given_up", "never_tried")}
    assert counted == {"expected": 8, "done": 3, "missing": 5, "failed": 2, "given_up": 1, "never_tried": 3}
    assert (found["complete_prompts"], found["partial_prompts"], found["empty_prompts"]) == (1, 1, 2)
    assert found["bounds"] == {"reward": {"low": 2 / 8, "high": 7 / 8}, "success": {"low": 2 / 8, "high": 7 / 8}}
    assert content["failures"]["by_reason"] == [
        {"reason": "timeout", "attempts": 3, "unresolved": 1},
        {"reason": "server", "attempts": 2, "unresolved": 1},
    ]
    assert content["overview"]["rollouts"] == 3, "what failed is no reward of 0"


def test_repeats_that_nobody_asked_for_do_not_count(tmp_path: Path) -> None:
    rows = [ours("p", repeat, float(repeat)) for repeat in range(8)]
    content = analysis_of(write(tmp_path / "a.jsonl", rows), repeats=2).content
    assert (content["coverage"]["done"], content["coverage"]["beyond"], content["rewards"]["max"]) == (2, 6, 1.0)


def test_rollouts_that_were_tried_again_are_compared_on_the_prompts_that_have_both(tmp_path: Path) -> None:
    rows, failures = [], []
    for prompt in range(40):
        rows += [ours(f"p{prompt}", 0, prompt + 3.0), ours(f"p{prompt}", 1, prompt + 1.0 + prompt % 2, tries=2)]
    failures = [failure("p0", 0)]
    found = analysis_of(write(tmp_path / "a.jsonl", [*rows, *failures])).content["tries"]
    assert found["rollouts"] == {"first": 39, "retried": 41}, "a failure in an earlier attempt is a try, too"
    difference = found["reward"]["difference"]
    assert difference["n_prompts"] == 39 and difference["value"] == pytest.approx(-2 + 20 / 39)
    assert difference["high"] < 0
    assert analysis_of(write(tmp_path / "b.jsonl", [ours("p", 0, 1.0)])).content["tries"] is None


def test_success_is_taken_from_the_reward_where_nobody_said(tmp_path: Path) -> None:
    rows = [ours("p", repeat, reward) for repeat, reward in enumerate([0.9, 1.0, 2.0])]
    for row in rows:
        del row["success"]
    found = analysis_of(write(tmp_path / "a.jsonl", rows)).content["success"]
    assert (found["rollouts"], found["by_field"]) == (2, 0)


def test_throughput_is_over_the_time_in_which_something_was_under_way(tmp_path: Path) -> None:
    spans = [(0.0, 10.0), (5.0, 15.0), (100.0, 105.0)]
    rows = [ours("p", place, 1.0, timing={"started": a, "finished": b}) for place, (a, b) in enumerate(spans)]
    found = analysis_of(write(tmp_path / "a.jsonl", rows)).content["throughput"]
    assert (found["busy"], found["rollouts_per_hour"], found["in_flight"]) == (20, 540, 1.25)
    assert found["tokens_per_second"] == (20 + 21 + 22) / 20


@pytest.mark.parametrize("reward", [9e99, -9e99, 1e-320, 0.0])
def test_extreme_rewards_are_still_numbers(tmp_path: Path, reward: float) -> None:
    rows = [ours(f"p{prompt}", repeat, reward, tool_calls=repeat) for prompt in range(40) for repeat in range(3)]
    content = analysis_of(write(tmp_path / "a.jsonl", [*rows, ours("q", 0, 1.0, tool_calls=2)])).content
    assert files.decode(files.encode(content), "it", "content") == json.loads(json.dumps(content, allow_nan=False))


def test_asked_for_ks_are_given_where_prompts_have_so_many(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", drawn(1))
    content = summarise(read([path]), Expected(), ks=[3, 5, 64]).content
    assert {each["k"] for each in content["metrics"][2:]} == {3, 5}


def test_quantiles_of_many_degrees_join_those_of_few() -> None:
    for degrees in (5001, 20_000):
        assert t_distribution(t_quantile(0.975, degrees), degrees) == pytest.approx(0.975, abs=1e-11)
    assert math.isclose(t_quantile(0.975, 5000), t_quantile(0.975, 5001), abs_tol=1e-6)


def test_prompts_are_listed_as_people_count() -> None:
    assert sorted(["p10", "p2", "a", "10", "9", "p2b"], key=natural) == ["9", "10", "a", "p2", "p2b", "p10"]
