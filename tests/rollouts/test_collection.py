"""Paid-for responses must never be lost, asked for twice, or counted twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.rollouts.collection import Collection, Sample, row_key


def row(prompt: str, repeat: int, reward: float = 1.0, finished: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"id": prompt, "repeat": repeat, "reward": reward, "timing": {"finished": finished}, **more}


def write(parts: Path, attempt: int, token: str, *rows: dict[str, Any]) -> Path:
    collection = Collection(parts, attempt, token)
    for each in rows:
        collection.append(each)
    collection.close()
    return parts / f"{attempt:03d}-{token}.jsonl"


def test_what_is_recorded_is_not_owed(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0), row("q", 1))
    assert Collection(tmp_path, 2, "bb").owed(["p", "q"], 2) == [Sample("q", 0), Sample("p", 1)]


def test_more_repeats_or_prompts_owe_only_the_difference(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0))
    assert Collection(tmp_path, 2, "bb").owed(["p"], 3) == [Sample("p", 1), Sample("p", 2)]
    assert Collection(tmp_path, 2, "bb").owed(["p", "q"], 1) == [Sample("q", 0)]


def test_a_failure_is_not_a_reward_of_zero_and_stays_owed(tmp_path: Path) -> None:
    failure = {"id": "p", "repeat": 0, "error": {"type": "timeout"}, "timing": {"finished": 1.0}}
    write(tmp_path, 1, "aa", failure)
    assert Collection(tmp_path, 2, "bb").owed(["p"], 1) == [Sample("p", 0)]
    assert Collection(tmp_path, 2, "bb").rows() == {}


def test_the_first_of_two_attempts_counts(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0, 0.0, finished=2.0))
    write(tmp_path, 2, "bb", row("p", 0, 1.0, finished=1.0))
    assert Collection(tmp_path, 3, "cc").rows()[Sample("p", 0)]["reward"] == 1.0


@given(cut=st.integers(1, 400))
def test_a_torn_line_is_owed_again_and_spoils_no_other(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    parts = tmp_path_factory.mktemp("parts")
    part = write(parts, 1, "aa", *(row("p", repeat) for repeat in range(3)))
    data = part.read_bytes()
    kept = data[: max(0, len(data) - cut)]
    part.write_bytes(kept)
    write(parts, 2, "bb", row("q", 0))
    found = Collection(parts, 3, "cc").rows()
    assert set(found) == {Sample("q", 0)} | {Sample("p", repeat) for repeat in range(kept.count(b"\n"))}
    assert part.read_bytes() == kept


@pytest.mark.parametrize("line", ["null", "3", '{"schema": 99, "id": "p", "repeat": 0, "timing": {}}', "{", '"x"'])
def test_foreign_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    part = write(tmp_path, 1, "aa", row("q", 0))
    part.write_text(f"{line}\n{part.read_text()}")
    assert list(Collection(tmp_path, 2, "bb").rows()) == [Sample("q", 0)]


def test_two_attempts_never_write_one_file(tmp_path: Path) -> None:
    write(tmp_path, 1, "aa", row("p", 0))
    with pytest.raises(FileExistsError):
        write(tmp_path, 1, "aa", row("p", 1))


def test_rows_survive_the_process_at_once(tmp_path: Path) -> None:
    collection = Collection(tmp_path, 1, "aa")
    collection.append(row("p", 0))
    assert json.loads((tmp_path / "001-aa.jsonl").read_text())["id"] == "p"
    collection.close()


def test_another_model_environment_or_sampling_is_another_collection() -> None:
    base: dict[str, Any] = {"environment": "e", "version": 1, "model": "m", "sampling": {"t": 1.0}, "template": "x"}
    others: list[dict[str, Any]] = [
        {"version": 2},
        {"model": "n"},
        {"sampling": {"t": 0.5}},
        {"template": "y"},
        {"environment": "f"},
    ]
    keys = {row_key(**base), *(row_key(**{**base, **other}) for other in others)}
    assert len(keys) == 6
