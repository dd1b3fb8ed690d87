"""What others wrote is read as far as it can be: each row once, each bad line named, nothing fatal."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.analysis.rollout_files import analysis_of, document, failure, gym, ours, table_of, write

from holdfast.core.errors import ConfigError, UserError
from holdfast.evaluation.analysis import lines
from holdfast.evaluation.analysis.busy import Busy
from holdfast.evaluation.analysis.columns import Counts
from holdfast.evaluation.analysis.groups import group


def rewards_of(path: Path, *more: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    rollouts = group(table_of(path, *more))
    for prompt, reward in zip(rollouts.prompt.tolist(), rollouts.reward.tolist(), strict=True):
        found.setdefault(rollouts.ids[prompt], []).append(reward)
    return found


def test_each_format_gives_the_same_rewards_and_says_what_it_is(tmp_path: Path) -> None:
    wanted = {"1": [0.5, 9.7], "2": [-0.1, -0.2]}
    pairs = [(int(prompt), repeat, reward) for prompt, each in wanted.items() for repeat, reward in enumerate(each)]
    files = {
        "holdfast": write(tmp_path / "a.jsonl", [ours(str(p), r, x, tool_calls=2) for p, r, x in pairs]),
        "nemo-gym": write(tmp_path / "b.jsonl", [gym(p, r, x, calls=2) for p, r, x in pairs]),
        "document": write(tmp_path / "c.jsonl", [document(p, x, calls=2) for p, _, x in pairs]),
    }
    for name, path in files.items():
        content = analysis_of(path).content
        assert rewards_of(path) == wanted
        assert [each["format"] for each in content["sources"]] == [name]
        assert (content["tools"]["mean"], content["tools"]["sum"]) == (2, 8)
        assert content["overview"]["repeats"]["max"] == 2


def test_rows_of_the_older_gym_are_told_apart_by_what_was_asked(tmp_path: Path) -> None:
    rows = [gym(task, 0, float(task)) for task in (3, 7, 3)]
    for row in rows:
        del row["_ng_task_index"], row["_ng_rollout_index"]
    content = analysis_of(write(tmp_path / "rollouts.jsonl", rows)).content
    assert content["sources"][0]["format"] == "nemo-gym" and not content["sources"][0]["has_repeats"]
    assert (content["overview"]["prompts"], content["overview"]["rollouts"]) == (2, 3)


def test_gym_rows_say_their_tokens_how_they_ended_and_whether_they_were_tried_again(tmp_path: Path) -> None:
    cut = gym(1, 1, 0.0, _ng_attempt_index=2)
    cut["response"]["incomplete_details"] = {"reason": "max_output_tokens"}
    failed = {"_ng_task_index": 1, "_ng_rollout_index": 2, "_ng_failure_class": "timeout_exceeded", "response": None}
    content = analysis_of(write(tmp_path / "a.jsonl", [gym(1, 0, 1.0), cut, failed])).content
    assert content["lengths"]["completion tokens"]["sum"] == 14
    assert [row["finish"] for row in content["finishes"]] == ["length", "not said"]
    assert content["tries"]["rollouts"] == {"first": 1, "retried": 1}
    assert content["failures"]["by_reason"] == [{"reason": "timeout_exceeded", "attempts": 1, "unresolved": 1}]
    assert content["sources"][0]["says"]["response.model"] == "Qwen3-4B"


BAD = {
    "not JSON": '{"id": "a", "repeat": 1, "rew',
    "no object": "[1, 2]",
    "text": "hello",
    "a number": "7",
    "no reward": '{"id": "a", "repeat": 1}',
    "no id": '{"repeat": 1, "reward": 1.0}',
    "NaN": '{"id": "a", "repeat": 1, "reward": NaN}',
    "Infinity": '{"id": "a", "repeat": 1, "reward": -Infinity}',
    "huge": '{"id": "a", "repeat": 1, "reward": 1e308}',
    "huger": '{"id": "a", "repeat": 1, "reward": 1e999}',
    "hugest": '{"id": "a", "repeat": 1, "reward": ' + "9" * 5000 + "}",
    "text as reward": '{"id": "a", "repeat": 1, "reward": "1.0"}',
    "null reward": '{"id": "a", "repeat": 1, "reward": null}',
    "list as id": '{"id": ["a"], "repeat": 1, "reward": 1.0}',
    "negative repeat": '{"id": "a", "repeat": -1, "reward": 1.0}',
    "half a repeat": '{"id": "a", "repeat": 1.5, "reward": 1.0}',
    "deep": '{"id": "a", "repeat": 1, "reward": 1.0, "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "later": '{"schema": 99, "id": "a", "repeat": 1, "reward": 1.0}',
    "two on a line": '{"id": "a", "repeat": 1, "reward": 1.0}{"id": "b", "repeat": 1, "reward": 1.0}',
    "control character": '{"id": "a\x01", "repeat": 1, "reward": 1.0}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_and_costs_no_other(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.jsonl", [ours("p", 0, 1.0), BAD[name], ours("p", 1, 2.0)])
    table = table_of(path)
    (source,) = table.sources
    assert (source.rows, source.bad_lines, [line for line, _ in source.bad]) == (2, 1, [2]), source.bad
    assert rewards_of(path) == {"p": [1.0, 2.0]}


def test_empty_lines_are_no_lines(tmp_path: Path) -> None:
    (source,) = table_of(write(tmp_path / "a.jsonl", ["", ours("p", 0, 1.0), "", "  ", ours("p", 1, 2.0), "7"])).sources
    assert (source.rows, source.bad) == (2, [(6, "a JSON int, no object")])


def test_what_is_optional_and_of_another_type_costs_only_itself(tmp_path: Path) -> None:
    odd = ours("p", 0, 1.0)
    odd |= {
        "usage": "many",
        "timing": {"started": "now"},
        "finish": 7,
        "num_steps": 2.5,
        "tool_calls": [1],
        "answer": 4,
    }
    nan = '{"id": "p", "repeat": 1, "reward": 2, "success": true, "info": {"loss": NaN}}'
    true = '{"id": "p", "repeat": 2, "reward": true, "success": 1}'
    table = table_of(write(tmp_path / "a.jsonl", [ours("p", 3, 4.0), odd, nan, true]))
    assert (table.sources[0].rows, table.sources[0].bad_lines) == (4, 0)
    assert group(table).reward.tolist() == [1.0, 2.0, 1.0, 4.0]


def test_a_torn_tail_is_said_and_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [ours("p", 0, 1.0)])
    whole = json.dumps(ours("p", 1, 2.0))
    for tail in (whole[:40], whole):  # a line without its end was never acknowledged, whole or not
        path.write_text(path.read_text().splitlines()[0] + "\n" + tail)
        (source,) = table_of(path).sources
        assert (source.rows, source.torn, source.bad_lines) == (1, 2, 0)
    foreign = tmp_path / "b.jsonl"
    foreign.write_text(json.dumps(document(1, 1.0)) + "\n" + json.dumps(document(2, 1.0)))
    assert table_of(foreign).sources[0].rows == 2


def test_of_a_rollout_that_is_there_twice_the_first_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [ours("p", 0, 1.0), ours("q", 0, 5.0), ours("p", 0, 2.0)])
    content = analysis_of(path).content
    assert rewards_of(path) == {"p": [1.0], "q": [5.0]}
    assert (content["coverage"]["duplicates"], content["coverage"]["done"]) == (1, 2)


def test_of_two_parts_the_rollout_that_was_finished_first_counts(tmp_path: Path) -> None:
    late = write(tmp_path / "001.jsonl", [ours("p", 0, 1.0, timing={"started": 1.0, "finished": 9.0})])
    early = write(tmp_path / "002.jsonl", [ours("p", 0, 2.0, timing={"started": 1.0, "finished": 3.0})])
    assert rewards_of(late, early) == {"p": [2.0]}


def test_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    rows = [ours(f"p{prompt}", repeat, prompt + repeat / 8) for prompt in range(50) for repeat in range(4)]
    straight = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    random.Random(0).shuffle(rows)
    shuffled = analysis_of(write(tmp_path / "a.jsonl", rows)).content
    for content in (straight, shuffled):
        for each in content["metrics"]:  # resampling goes by the order in which prompts came
            each["low"] = each["high"] = None
    assert json.dumps(straight["metrics"]) == json.dumps(shuffled["metrics"])
    assert straight["histogram"] == shuffled["histogram"]


def test_a_file_without_anything_is_a_report_of_nothing(tmp_path: Path) -> None:
    content = analysis_of(write(tmp_path / "a.jsonl", [])).content
    assert content["sources"][0]["format"] is None
    assert content["coverage"]["done"] == 0 and "metrics" not in content


def test_failures_alone_are_a_report(tmp_path: Path) -> None:
    content = analysis_of(write(tmp_path / "a.jsonl", [failure("p", 0), failure("p", 0), failure("p", 1)])).content
    assert content["failures"]["attempts"] == 3 and content["coverage"]["failed"] == 0
    content = analysis_of(tmp_path / "a.jsonl", repeats=2, prompts=1).content
    assert content["coverage"]["failed"] == 2


def test_a_file_of_something_else_is_refused_with_its_first_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.jsonl holds no rollouts: line 1"):
        table_of(write(tmp_path / "b.jsonl", [{"loss": 1.0}]))
    with pytest.raises(UserError, match="cannot be read"):
        table_of(tmp_path / "missing.jsonl")


def test_lines_are_found_wherever_chunks_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    draw = random.Random(1)
    wanted = [
        bytes([draw.randrange(97, 123)]) * draw.choice([0, 1, 5000, lines.CHUNK, 3 * lines.CHUNK + 1])
        for _ in range(60)
    ]
    path.write_bytes(b"".join(each + b"\n" for each in wanted) + b"tail")
    found: list[bytes] = []
    for chunk in lines.read_chunks(path):
        assert chunk.first == len(found) + 1
        found += [chunk.data] if chunk.is_torn else chunk.data.split(b"\n")[:-1]
    assert found == [*wanted, b"tail"]


def test_a_line_without_end_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x\n" + b"y" * (lines.CHUNK * 5) + b"\nz\n")
    found = [(chunk.first, chunk.data, chunk.too_long) for chunk in lines.read_chunks(path, longest=lines.CHUNK)]
    assert found[0] == (1, b"x\n", False) and found[1] == (2, b"", True) and found[2] == (3, b"z\n", False)


def test_a_line_of_a_megabyte_is_a_line(tmp_path: Path) -> None:
    long = ours("p", 1, 2.0, messages=[{"role": "user", "content": "x" * 1_500_000}])
    assert rewards_of(write(tmp_path / "a.jsonl", [ours("p", 0, 1.0), long, ours("p", 2, 3.0)])) == {
        "p": [1.0, 2.0, 3.0]
    }


@pytest.mark.parametrize("values", [[0, None, 254], [255, 3, None], [70_000, 1], [2**40, -5, None], [2**63, 2**62]])
def test_columns_hold_what_they_were_given(values: list[int | None]) -> None:
    column = Counts()
    column.extend([1, 2])
    column.extend(values)
    found = [int(each) - 1 for each in column.as_array()]
    kept = [-1 if each is None or not 0 <= each < 2**63 else each for each in values]
    assert found == [1, 2, *kept]


def test_time_under_way_is_that_of_the_union() -> None:
    draw = random.Random(2)
    spans = [(start := draw.randrange(300), start + draw.randrange(1, 9)) for _ in range(90)]
    busy = Busy()
    for at in range(0, 90, 7):
        busy.add([(float(start), float(end)) for start, end in spans[at : at + 7]])
    assert busy.seconds == len({second for start, end in spans for second in range(start, end)})
    assert Busy().seconds is None


def values_of(path: Path, *fields: str) -> list[list[tuple[str, int]]]:
    rollouts = group(table_of(path, by=fields))
    return [
        sorted((value, int((numbers == place).sum())) for place, value in enumerate(values))
        for values, numbers in rollouts.by.values()
    ]


def test_rows_are_broken_down_by_any_field(tmp_path: Path) -> None:
    rows: list[Any] = [document(game, 1.0, level="<b>" if game else None) for game in (0, 1, 1)]
    rows.append(json.dumps(document(0, 1.0, level="<b>")).replace("[4, 5]", "[ 4,5 ]"))
    path = write(tmp_path / "a.jsonl", rows)
    assert values_of(path, "dim_board", "prompt.box_type", "level", "nobody") == [
        [("[4, 5]", 2), ("[5, 5]", 2)],
        [("0", 2), ("1", 2)],
        [("<b>", 3), ("null", 1)],
        [("", 4)],
    ]


def test_fields_are_found_beside_bad_lines_and_prompts_of_other_types(tmp_path: Path) -> None:
    rows: list[Any] = [ours("p", 0, 1.0, prompt="2+2", info={"level": 3}), BAD["NaN"]]
    rows += [ours("p", 1, 1.0, prompt=[{"role": "user"}], level=3), ours("p", 2, 1.0, prompt={"level": 3}, info=7)]
    rows += [ours("p", 3, 1.0, info={"level": [float("nan")]})]
    assert values_of(write(tmp_path / "a.jsonl", rows), "level") == [[("3", 3), ("[NaN]", 1)]]


def test_fields_that_break_nothing_down_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [ours("p", repeat, 1.0, seed=repeat) for repeat in range(10_001)])
    with pytest.raises(UserError, match="`seed` has more than 10,000 values"):
        table_of(path, by=("seed",))
    for name in ("", "a..b", "."):
        with pytest.raises(ConfigError, match="no name of a field"):
            table_of(path, by=(name,))
