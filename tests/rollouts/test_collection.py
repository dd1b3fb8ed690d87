"""Paid-for responses must never be lost, asked for twice, or counted twice."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import UserError
from holdfast.rollouts.collection import Collection, Owed, Sample, row_key


def row(prompt: str, repeat: int, reward: float = 1.0, finished: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"id": prompt, "repeat": repeat, "reward": reward, "timing": {"finished": finished}, **more}


def failure(prompt: str, repeat: int, kind: str = "timeout", **more: Any) -> dict[str, Any]:
    return {"id": prompt, "repeat": repeat, "error": {"type": kind}, "timing": {"finished": 1.0}, **more}


def write(parts: Path, attempt: int, token: str, *rows: dict[str, Any]) -> Path:
    collection = Collection(parts, attempt, token)
    for each in rows:
        collection.append(each)
    collection.close()
    return parts / f"{attempt:03d}-{token}.jsonl"


def recorded(parts: Path, ids: Sequence[str], repeats: int) -> dict[Sample, dict[str, Any]]:
    index = Collection(parts, 99, "reader").index(ids, repeats)
    found = {Sample(each["id"], each["repeat"]): each for each in index.rows()}
    index.close()
    return found


def test_what_is_recorded_is_not_owed(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0), row("q", 1))
    assert Collection(tmp_path, 2, "bb").owed(["p", "q"], 2) == [Sample("q", 0), Sample("p", 1)]


def test_more_repeats_or_prompts_owe_only_the_difference(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0))
    assert Collection(tmp_path, 2, "bb").owed(["p"], 3) == [Sample("p", 1), Sample("p", 2)]
    assert Collection(tmp_path, 2, "bb").owed(["p", "q"], 1) == [Sample("q", 0)]


def test_a_failure_is_not_a_reward_of_zero_and_stays_owed(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", failure("p", 0), failure("p", 0))
    assert list(Collection(tmp_path, 2, "bb").index(["p"], 1).owed()) == [Owed(Sample("p", 0), False, failures=2)]
    assert recorded(tmp_path, ["p"], 1) == {}


def test_a_response_that_was_not_graded_is_kept_and_can_be_read_back(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("q", 0), failure("p", 0, "scorer_timeout", response="forty-two"))
    index = Collection(tmp_path, 2, "bb").index(["p", "q"], 1)
    assert list(index.owed()) == [Owed(Sample("p", 0), has_response=True, failures=1)]
    assert index.response(Sample("p", 0))["response"] == "forty-two"
    with pytest.raises(KeyError):
        index.row(Sample("p", 0))
    index.close()


def test_the_first_of_two_attempts_counts(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0, 0.0, finished=2.0))
    write(tmp_path, 2, "bb", row("p", 0, 1.0, finished=1.0))
    assert recorded(tmp_path, ["p"], 1)[Sample("p", 0)]["reward"] == 1.0


def test_rows_come_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("q", 1), row("p", 1), row("q", 0), row("p", 0))
    assert list(recorded(tmp_path, ["p", "q"], 2)) == [("p", 0), ("p", 1), ("q", 0), ("q", 1)]


@given(cut=st.integers(1, 400))
def test_a_torn_line_is_owed_again_and_spoils_no_other(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    parts = tmp_path_factory.mktemp("parts")
    part = write(parts, 1, "aa", *(row("p", repeat) for repeat in range(3)))
    data = part.read_bytes()
    kept = data[: max(0, len(data) - cut)]
    part.write_bytes(kept)
    write(parts, 2, "bb", row("q", 0))
    expected = {Sample("q", 0)} | {Sample("p", repeat) for repeat in range(kept.count(b"\n"))}
    assert set(recorded(parts, ["p", "q"], 3)) == expected
    assert part.read_bytes() == kept


@pytest.mark.parametrize(
    "line", ["null", "3", '{"schema": 99, "id": "p", "repeat": 0, "timing": {}}', "{", '"x"', '{"id": "\\udc00"}']
)
def test_foreign_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    part = write(tmp_path, 1, "aa", row("q", 0))
    part.write_bytes(line.encode() + b"\n\xff\xfe\n" + part.read_bytes())
    assert list(recorded(tmp_path, ["p", "q"], 1)) == [Sample("q", 0)]
    assert Collection(tmp_path, 2, "bb").index(["p"], 1).passed_over == 2


def test_rows_as_the_first_version_wrote_them_still_count(tmp_path: Path) -> None:
    content = {"response": "20", "success": True, "num_steps": 1, "seed": None, "usage": {}, "attempt": 1}
    old = {"schema": 1, "prompt": "10+10=", **row("10+10", 0), **content}
    (tmp_path / "001-aa.jsonl").write_text(json.dumps(old, ensure_ascii=False) + "\n")
    assert recorded(tmp_path, ["10+10"], 1)[Sample("10+10", 0)] == old


def test_two_attempts_never_write_one_file(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0))
    with pytest.raises(FileExistsError):
        write(tmp_path, 1, "aa", row("p", 1))


def test_rows_survive_the_process_at_once(tmp_path: Path) -> None:
    collection = Collection(tmp_path, 1, "aa")
    collection.append(row("p", 0))
    assert json.loads((tmp_path / "001-aa.jsonl").read_text())["id"] == "p"
    collection.close()


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the id 'p'"):
        Collection(tmp_path, 1, "aa").index(["p", "q", "p"], 1)


def test_finding_what_is_owed_holds_no_responses(tmp_path: Path) -> None:
    long = "x" * 20_000
    lines = [json.dumps({"schema": 1, **row(f"p{n}", 0, response=long)}) + "\n" for n in range(1000)]
    (tmp_path / "001-aa.jsonl").write_text("".join(lines))
    ids = [f"p{n}" for n in range(1001)]
    Collection(tmp_path, 2, "bb").index(["p"], 1)  # what is loaded once is not counted
    tracemalloc.start()
    index = Collection(tmp_path, 2, "bb").index(ids, 1)
    assert [each.sample.id for each in index.owed()] == ["p1000"]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000, "20 MB of responses are there"
    tracemalloc.stop()


def test_what_is_written_later_is_taken_in_once(tmp_path: Path) -> None:
    part = write(tmp_path, 1, "aa", row("p", 0, 0.0, finished=2.0), failure("q", 0, response="x"))
    whole = part.read_bytes()
    part.write_bytes(whole + whole[:20])
    index = Collection(tmp_path, 9, "reader").index(["p", "q"], 2)
    assert (index.done, index.passed_over) == (1, 1)
    part.write_bytes(whole + json.dumps({"schema": 1, **row("p", 1)}).encode() + b"\n")
    write(tmp_path, 2, "bb", row("p", 0, 1.0, finished=1.0), failure("q", 0), row("q", 1))
    for _ in range(2):
        index.update()
        assert (index.done, index.passed_over) == (3, 0), "the torn line is whole now"
        assert list(index.owed()) == [Owed(Sample("q", 0), has_response=True, failures=2)]
        assert index.row(Sample("p", 0))["reward"] == 1.0, "the one that was finished first"
    index.close()


BASE: dict[str, Any] = {"environment": "e", "version": 1, "model": "m", "sampling": {"t": 1.0}, "template": "x"}


def test_another_model_environment_or_sampling_is_another_collection() -> None:
    others: list[dict[str, Any]] = [
        {"version": 2},
        {"model": "n"},
        {"sampling": {"t": 0.5}},
        {"template": "y"},
        {"environment": "f"},
        {"dataset": "d"},
    ]
    keys = {row_key(**BASE), *(row_key(**{**BASE, **other}) for other in others)}
    assert len(keys) == 7


def test_the_key_of_rows_that_exist_stays() -> None:
    assert row_key(**BASE) == "3b13772382afeee5d342373372335d329a522b2ff896d760a1fd649e850d52f8"
