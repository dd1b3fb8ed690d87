"""`rollout analyze`: what is found, what is written, what two of them say of each other, and what a mistake is told."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.evaluation.analysis.rollout_files import Row, document, failure, gym, ours, write
from tests.runs import hold

from holdfast.cli import rollout_analyze
from holdfast.core.errors import UserError
from holdfast.evaluation.comparison import paired_difference
from holdfast.pipelines import rollout_analysis

WRITTEN = {"reward_analysis.md", "reward_analysis.html", "reward_analysis_prompts.csv", "reward_analysis_histogram.svg"}


def analyze(*arguments: object) -> int:
    """The verb, as it is typed."""
    parser = argparse.ArgumentParser()
    rollout_analyze.add_arguments(parser)
    return rollout_analyze.run(parser.parse_args([str(each) for each in arguments]))


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert analyze(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def some(prompts: int = 30, repeats: int = 4, seed: int = 0, gain: float = 0.0) -> list[Row]:
    draw = random.Random(seed)
    hard = [draw.random() * 0.6 for _ in range(prompts)]
    rows = []
    for prompt, chance in enumerate(hard):
        for repeat in range(repeats):
            right = random.Random(f"{seed} {gain} {prompt} {repeat}").random() < chance + gain
            rows.append(ours(f"p{prompt}", repeat, 10.0 * right - 0.5, success=right, tool_calls=repeat))
    return rows


def test_a_report_lies_beside_the_rollouts_and_is_named_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rollouts.jsonl", some())
    assert analyze(path) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == "120 of 120 rollouts" and output[-1] == str(tmp_path / "reward_analysis.md")
    assert {each.name for each in tmp_path.iterdir()} >= WRITTEN
    assert (tmp_path / "reward_analysis_prompts.csv").read_text().count("\n") == 31
    text = (tmp_path / "reward_analysis.md").read_text()
    for name in ("histogram", "difficulty", "tools", "success", "best"):
        assert f"(reward_analysis_{name}.svg)" in text and (tmp_path / f"reward_analysis_{name}.svg").is_file()


def test_two_files_of_one_directory_have_two_reports(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        assert analyze(write(tmp_path / name, some())) == 0
    assert (tmp_path / "a_reward_analysis.md").is_file() and (tmp_path / "b_reward_analysis.html").is_file()


def test_a_report_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", some())
    assert analyze(path, "--out", tmp_path / "new" / "place") == 0
    assert {each.name for each in (tmp_path / "new" / "place").iterdir()} >= WRITTEN
    assert [each.name for each in tmp_path.glob("*.md")] == []


def test_json_is_everything_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rollouts.jsonl", some())
    content = told(capsys, path, "--by", "tool_calls,success", "--k", "3")
    assert [each["field"] for each in content["breakdowns"]] == ["tool_calls", "success"]
    assert {each["k"] for each in content["metrics"][2:]} == {3}
    assert [each.name for each in tmp_path.iterdir()] == ["rollouts.jsonl"]


def test_an_unfinished_collection_is_analysed_as_far_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "collections" / "key" / "parts"
    parts.mkdir(parents=True)
    rows = some()
    write(parts / "001-aa.jsonl", [*rows[:50], failure("p20", 0)])
    last = write(parts / "002-bb.jsonl", [*rows[45:70], failure("p29", 3, "server")])
    last.write_bytes(last.read_bytes() + b'{"id": "p20", "rep')
    for path in (parts, parts.parent):
        content = told(capsys, path, "--prompts", 30, "--repeats", 4)
        coverage = content["coverage"]
        assert (coverage["expected"], coverage["done"], coverage["duplicates"]) == (120, 70, 5)
        assert (coverage["failed"], coverage["never_tried"]) == (2, 48)
        assert coverage["known_by"] == "--prompts and --repeats"
    assert analyze(parts.parent, "--prompts", 30, "--repeats", 4) == 0
    assert "002-bb.jsonl: line 27 is torn" in capsys.readouterr().err
    assert (parts.parent / "reward_analysis.md").is_file() and not list(parts.glob("reward*"))


def test_a_home_says_how_much_was_wanted_and_what_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "rollouts.jsonl", some(prompts=9))
    line = {"id": "p9", "repeat": 0, "attempt": 1, "type": "timeout", "message": "no answer", "finished": 7.0}
    write(tmp_path / "failures.jsonl", [{**line, "number": number} for number in (1, 2, 3)])
    identity = {"model_digest": "abc", "repeats": 4, "sampling": {"temperature": 0.6}}
    (tmp_path / "metrics.json").write_text(
        json.dumps({"schema": 1, "coverage": {"expected": 40}, "identity": identity})
    )
    content = told(capsys, tmp_path)
    coverage = content["coverage"]
    assert (coverage["expected"], coverage["done"], coverage["failed"], coverage["given_up"]) == (40, 36, 1, 1)
    assert coverage["known_by"] == "metrics.json"
    assert content["failures"]["by_reason"] == [{"reason": "timeout", "attempts": 3, "unresolved": 1}]
    assert content["identity"] == {"model_digest": "abc", "repeats": 4, "sampling.temperature": 0.6}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1, "coverage": [], "identity": 3}', '{"schema": 99}'])
def test_metrics_that_say_nothing_are_no_reason_to_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(tmp_path / "rows.jsonl", some())
    (tmp_path / "metrics.json").write_text(text)
    assert told(capsys, tmp_path)["coverage"]["expected"] == 120


def test_what_gym_puts_beside_its_output_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "out.jsonl", [gym(task, rollout, 1.0) for task in range(3) for rollout in range(2)])
    asked = [{"_ng_task_index": task, "_ng_rollout_index": rollout} for task in range(4) for rollout in range(2)]
    write(tmp_path / "out_materialized_inputs.jsonl", [*asked, "{"])
    failed = {"_ng_task_index": 3, "_ng_rollout_index": 0, "_ng_failure_class": "kill_shaped"}
    write(tmp_path / "out_failures.jsonl", [failed])
    content = told(capsys, path)
    assert (content["coverage"]["expected"], content["coverage"]["done"], content["coverage"]["failed"]) == (8, 6, 1)
    assert content["coverage"]["known_by"] == "out_materialized_inputs.jsonl"
    assert content["failures"]["by_reason"][0]["reason"] == "kill_shaped"


def test_bad_lines_are_said_and_the_rest_is_analysed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Row | str] = [document(1, 9.7), document(2, -0.5)]
    rows[1:1] = ["{" * 5] * 30
    assert analyze(write(tmp_path / "rollouts.jsonl", rows)) == 0
    captured = capsys.readouterr()
    assert "note: rollouts.jsonl: 30 lines without a rollout, the first is line 2: not JSON" in captured.err
    assert captured.out.startswith("2 of 2 rollouts")
    assert "10 more lines hold no rollout" in (tmp_path / "reward_analysis.md").read_text()


def test_an_empty_file_is_no_rollouts_and_no_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(write(tmp_path / "rollouts.jsonl", [])) == 0
    assert "0 of 0 rollouts: none has a reward yet" in capsys.readouterr().out
    assert (tmp_path / "reward_analysis.html").is_file()


def test_rollouts_are_found_by_their_name(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    rows = json.dumps(json.dumps(ours("p", 0, 1.0)))
    script = f"import pathlib, sys; pathlib.Path(sys.argv[1], 'rollouts.jsonl').write_text({rows} + chr(10))"
    params = {"command": ["{python}", "-c", script, "{out}"], "makes": ["rollouts.jsonl"]}
    (tmp_path / "plan.yaml").write_text(json.dumps({"stages": {"mine": {"kind": "command", "params": params}}}))
    hold(root, "run", "plan.yaml", "--wait", code=0)
    rows_found = rollout_analysis.find("mine", root)
    assert [each.name for each in rows_found.paths] == ["rollouts.jsonl"]
    assert rollout_analysis.analyse(rows_found).content["coverage"]["done"] == 1
    with pytest.raises(UserError, match="no stage is called `nobody`"):
        rollout_analysis.find("nobody", root)


def mistakes(tmp_path: Path) -> list[tuple[Sequence[object], str]]:
    good = write(tmp_path / "rollouts.jsonl", some())
    other = write(tmp_path / "other.jsonl", [ours("elsewhere", 0, 1.0)])
    (tmp_path / "empty").mkdir()
    write(tmp_path / "losses.jsonl", [{"loss": 0.1}])
    return [
        ([tmp_path / "missing"], "is neither a file nor a directory"),
        ([tmp_path / "empty"], "has no rollouts.jsonl, no rows.jsonl and no parts"),
        ([tmp_path / "losses.jsonl"], "holds no rollouts: line 1"),
        ([good, good, good], "3 paths are named"),
        ([good, other], "cannot be compared: no prompt is in both"),
        ([good, "--by", "a..b"], "no name of a field"),
    ]


@pytest.mark.parametrize("number", range(6))
def test_a_mistake_is_told_with_a_way_out(tmp_path: Path, number: int) -> None:
    arguments, says = mistakes(tmp_path)[number]
    with pytest.raises(UserError, match=says) as caught:
        analyze(*arguments)
    assert caught.value.hint


def test_two_are_compared_on_the_prompts_that_both_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = some(prompts=60), [*some(prompts=55, gain=0.35), ours("new", 0, 0.0)]
    a, b = write(tmp_path / "a.jsonl", before), write(tmp_path / "b.jsonl", after)
    found = told(capsys, a, b)
    assert (found["common"], found["only_in_a"], found["only_in_b"]) == (55, 5, 1)
    means = [
        {prompt: fmean(row["reward"] for row in rows if row["id"] == prompt) for prompt in {row["id"] for row in rows}}
        for rows in (before, after)
    ]
    wanted = paired_difference(*means, trials=False)
    reward = found["metrics"][0]
    assert (reward["value"], reward["low"], reward["high"]) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert reward["verdict"] == "higher" and [each["name"] for each in found["metrics"]][:4] == [
        "reward",
        "success",
        "pass@2",
        "best@2",
    ]
    assert found["changed"]["better"][0]["b"] > found["changed"]["better"][0]["a"]


def test_a_comparison_says_what_else_differs_and_what_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = []
    for name, temperature in (("a", 0.6), ("b", 1.0)):
        home = tmp_path / name
        home.mkdir()
        write(home / "rollouts.jsonl", some(prompts=9))
        identity = {"sampling": {"temperature": temperature}, "repeats": 4, "environment": "tetris"}
        content = {"schema": 1, "coverage": {"expected": 36 + 4 * (name == "b")}, "identity": identity}
        (home / "metrics.json").write_text(json.dumps(content))
        homes.append(home)
    assert analyze(*homes) == 0
    captured = capsys.readouterr()
    assert "note: they differ in sampling.temperature: 0.6 and 1.0" in captured.err
    assert "note: B is not whole: 36 of 40 rollouts" in captured.err
    assert "no difference of the reward is shown on 9 prompts" in captured.out


def test_an_interrupted_report_leaves_the_old_one(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", some())
    assert analyze(path) == 0
    before = (tmp_path / "reward_analysis.md").read_bytes()
    analysis = rollout_analysis.analyse(rollout_analysis.find(str(path)))
    (tmp_path / "reward_analysis.html").unlink()
    (tmp_path / "reward_analysis.html").mkdir()
    with pytest.raises(OSError, match=r"reward_analysis\.html"):
        rollout_analysis.write(analysis, tmp_path)
    assert (tmp_path / "reward_analysis.md").read_bytes() == before
    assert not list(tmp_path.glob(".tmp*"))
