"""metrics.json is what people quote: each number must be that of the rows, and say what it leaves out."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

import pytest

from holdfast.core import files
from holdfast.core.errors import ConfigError
from holdfast.evaluation import report
from holdfast.evaluation.metrics import default_ks, prompt_values, summarise
from holdfast.evaluation.recorded import spread
from holdfast.evaluation.statistics import accuracy
from holdfast.rollouts.collection import Row, Sample


def row(
    reward: float, answer: str | None = None, finish: str = "stop", start: float = 0.0, seconds: float = 1.0
) -> Row:
    usage = {"prompt_tokens": 10, "completion_tokens": 20}
    timing = {"started": start, "finished": start + seconds}
    return {
        "reward": reward,
        "success": reward >= 1,
        "answer": answer,
        "finish": finish,
        "usage": usage,
        "timing": timing,
    }


def rows(rewards: dict[str, list[float]], **fields: Any) -> dict[Sample, Row]:
    pairs = ((Sample(each, repeat), reward) for each, found in rewards.items() for repeat, reward in enumerate(found))
    return {sample: row(reward, f"a{reward}", **fields) for sample, reward in pairs}


def listed(there: dict[Sample, Row]) -> list[Row]:
    """As they are published: by prompt and repeat."""
    order = {each: number for number, each in enumerate(dict.fromkeys(sample.id for sample in there))}
    samples = sorted(there, key=lambda sample: (order[sample.id], sample.repeat))
    return [{**sample._asdict(), **there[sample]} for sample in samples]


REWARDS = {f"p{number}": [float(number % 3 == 0), float(number % 2), 1.0, 0.0] for number in range(60)}


def by_name(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in content["metrics"]}


def test_numbers_are_those_of_the_rows() -> None:
    content = summarise(listed(rows(REWARDS)), list(REWARDS), 4, step=7, identity={"engine": "fake"})
    found = by_name(content)
    assert list(found) == ["accuracy", "pass@2", "pass@4", "pass^2", "pass^4", "maj@2", "maj@4"]
    expected = accuracy(REWARDS)
    assert (found["accuracy"]["value"], found["accuracy"]["low"], found["accuracy"]["high"]) == expected[:3]
    assert found["pass@4"]["value"] == fmean(any(each) for each in REWARDS.values()) == 1
    assert found["pass^4"]["value"] == 0 and found["pass^4"]["method"] == "wilson"
    assert found["pass^2"]["low"] < found["pass^2"]["value"] < found["pass^2"]["high"]
    assert (found["maj@4"]["k"], found["maj@4"]["n_prompts"], found["maj@4"]["subsets"]) == (4, 60, "exact")
    assert (content["step"], content["identity"], content["coverage"]["bounds"]) == (7, {"engine": "fake"}, None)
    assert content["tokens"]["completion"] == {"mean": 20, "p50": 20, "p95": 20, "sum": 4800}


def test_what_is_missing_is_counted_by_reason_and_bounded_and_never_scored() -> None:
    there = rows(REWARDS)
    for repeat in range(4):
        del there[Sample("p1", repeat)]
    del there[Sample("p3", 2)]
    content = summarise(listed(there), list(REWARDS), 4, failed={"scorer_timeout": 4, "connection": 1})
    found = by_name(content)
    assert (content["coverage"]["expected"], content["coverage"]["done"]) == (240, 235)
    assert content["coverage"]["failed"] == {"connection": 1, "scorer_timeout": 4}
    whole = fmean(fmean(each) for each in REWARDS.values())
    low, high = content["coverage"]["bounds"]["low"], content["coverage"]["bounds"]["high"]
    assert low < whole < high and high - low == pytest.approx(5 / 240)
    left = {each: rewards for each, rewards in REWARDS.items() if each != "p1"} | {"p3": [1.0, 1.0, 0.0]}
    assert found["accuracy"]["value"] == pytest.approx(fmean(map(fmean, left.values())))
    assert (found["accuracy"]["n_prompts"], found["pass@4"]["n_prompts"]) == (59, 58)


def test_more_than_was_asked_for_does_not_count() -> None:
    there = {sample: each for sample, each in rows(REWARDS).items() if sample.id in list(REWARDS)[:40]}
    content = summarise(listed(there), list(REWARDS)[:40], 1)
    (found,) = content["metrics"]
    assert (found["n_prompts"], content["coverage"]["expected"], found["method"]) == (40, 40, "wilson")
    assert found["value"] == fmean(each[0] for each in list(REWARDS.values())[:40])


def test_rewards_that_are_no_shares_have_their_best_and_no_bounds() -> None:
    there = rows({f"p{number}": [float(number), -3.0] for number in range(40)})
    del there[Sample("p0", 0)]
    content = summarise(listed(there), [f"p{number}" for number in range(40)], 2)
    assert by_name(content)["best@2"]["value"] == fmean(range(1, 40))
    assert content["coverage"]["bounds"] is None


def test_truncation_and_time_are_said() -> None:
    there = {
        **rows(REWARDS),
        Sample("p0", 0): row(0.0, finish="length"),
        Sample("p1", 0): row(0.0, start=100, seconds=5),
    }
    content = summarise(listed(there), list(REWARDS), 4)
    assert content["truncated"]["value"] == pytest.approx(1 / 240)
    assert content["time"]["busy"] == 6, "the pause between attempts is no time that was spent"


def test_the_file_is_json_although_nothing_is_known_of_an_interval() -> None:
    content = summarise(listed(rows({"a": [5.0, 7.0]})), ["a"], 2)
    assert by_name(content)["accuracy"]["low"] is None
    assert files.decode(files.encode(content), "metrics.json", "metrics") == json.loads(json.dumps(content))
    assert report.lines(content)[1].split() == ["accuracy", "6.000", "1"]


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no response"):
        summarise([], ["a"], 2)


def test_the_table_says_what_the_file_says() -> None:
    there = rows(REWARDS)
    del there[Sample("p1", 0)]
    content = summarise(listed(there), list(REWARDS), 4, failed={"timeout": 1})
    table = report.lines(content)
    value, interval = report.spell(by_name(content)["accuracy"])
    assert table[1].split("  ")[0] == "accuracy" and value in table[1] and interval in table[1]
    assert any(line.startswith("responses   239 of 240; failed: 1 timeout; accuracy 0.") for line in table)
    assert "0.0% of responses ended at the limit" in "\n".join(table)


@pytest.mark.parametrize("name", ["pass@0", "pass4", "acuracy", "maj@-1"])
def test_unknown_metric_is_told_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no metric"):
        prompt_values(name, {"a": [row(1.0)]})


def test_ks_and_percentiles() -> None:
    assert [default_ks(each) for each in (1, 2, 3, 8, 12)] == [[], [2], [2, 3], [2, 4, 8], [2, 4, 8, 12]]
    assert spread([]) is None
    assert spread(list(range(1, 101))) == {"mean": 50.5, "p50": 50, "p95": 95, "sum": 5050}
