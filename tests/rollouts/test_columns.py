"""The index must say what the rows say, whoever wrote them, however they came to be there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.web import rows

from holdfast.core.errors import UserError
from holdfast.rollouts import columns_file, columns_query
from holdfast.rollouts.columns import COUNTED, RETRIED, TWICE, judge
from holdfast.rollouts.columns_follow import Follower, Source, keep
from holdfast.rollouts.columns_heads import read_head
from holdfast.rollouts.columns_query import Filter


def follow(path: Path, kept: Path | None = None, **more: Any) -> Follower:
    follower = Follower(Source("test", (path,), kept=kept, **more))
    follower.refresh()
    return follower


def described(follower: Follower, **wanted: Any) -> list[dict[str, Any]]:
    return columns_query.describe(follower.columns, columns_query.order(follower.columns, Filter(**wanted)))


def values(follower: Follower, name: str, **wanted: Any) -> list[Any]:
    return [row[name] for row in described(follower, **wanted)]


def test_a_row_of_ours_is_summarised(tmp_path: Path) -> None:
    row = rows.game(3, 2)
    (found,) = described(follow(rows.write(tmp_path / "r.jsonl", [row])))
    assert found["id"] == "puzzle-3" and found["repeat"] == 2 and found["reward"] == row["reward"]
    assert found["steps"] == 4 and found["tools"] == 4 and found["tokens"] == row["usage"]["completion_tokens"]
    assert found["success"] is row["success"] and found["truncated"] is row["truncated"] and found["failure"] is None
    assert found["seconds"] == pytest.approx(row["timing"]["finished"] - row["timing"]["started"])
    assert found["length"] == len(json.dumps(row["response"]))


def test_a_row_of_nemo_gym_is_summarised(tmp_path: Path) -> None:
    (found,) = described(follow(rows.write(tmp_path / "r.jsonl", [rows.nemo_gym(5, 1)])))
    assert (found["id"], found["repeat"], found["reward"]) == ("5", 1, 0.5)
    assert (found["tools"], found["tokens"]) == (1, 42)
    assert found["success"] is None and found["seconds"] is None and found["steps"] is None


def test_a_line_of_failures_is_a_failure_and_counts_only_where_nothing_came_of_it(tmp_path: Path) -> None:
    failed = {"number": 1, "attempt": 1, "type": "timeout", "message": "no answer within 600 s", "finished": 5.0}
    rows.write(tmp_path / "rollouts.jsonl", [rows.game(0, 0), rows.game(0, 1)])
    rows.write(tmp_path / "failures.jsonl", [{"id": "puzzle-0", "repeat": n, **failed} for n in (1, 2)])
    follower = Follower(Source("home", (tmp_path / "rollouts.jsonl", tmp_path / "failures.jsonl")))
    follower.refresh()
    assert values(follower, "failure") == [None, None, "timeout"] and values(follower, "repeat") == [0, 1, 2]
    assert values(follower, "repeat", state="superseded") == [1]


def test_rows_of_the_document_are_numbered_by_their_prompt(tmp_path: Path) -> None:
    follower = follow(rows.write(tmp_path / "r.jsonl", [rows.document(n) for n in (1, 2, 1, 1)]))
    assert values(follower, "id") == ["1", "2", "1", "1"]
    assert values(follower, "repeat") == [0, 0, 1, 2]
    assert values(follower, "success") == [True] * 4 and values(follower, "tools") == [1] * 4


def test_numbering_goes_on_when_an_index_is_taken_up_again(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.document(1), rows.document(2)])
    follow(path, tmp_path / "kept").save(even_if_few=True)
    with open(path, "ab") as file:
        file.write(rows.lines([rows.document(2), rows.document(1)]))
    assert values(follow(path, tmp_path / "kept"), "repeat") == [0, 0, 1, 1]


def test_prompts_without_any_id_are_told_apart_by_their_contents(tmp_path: Path) -> None:
    told = [{"prompt": text, "reward": 1} for text in ("a", "b", "a")]
    follower = follow(rows.write(tmp_path / "r.jsonl", told))
    assert values(follower, "repeat") == [0, 0, 1]
    assert len(set(values(follower, "id"))) == 2


@pytest.mark.parametrize(
    ("changed", "name", "found"),
    [
        ({"reward": "nine"}, "reward", None),
        ({"reward": float("nan")}, "reward", None),
        ({"reward": float("inf")}, "reward", None),
        ({"reward": -1}, "reward", -1.0),
        ({"success": 1}, "success", True),
        ({"usage": {"completion_tokens": "many"}}, "tokens", None),
        ({"usage": "none"}, "reward", 0.5),
        ({"num_steps": 10**30}, "steps", 2**31 - 1),
        ({"num_steps": -7}, "steps", None),
        ({"timing": {"started": 0, "finished": 1e300}}, "seconds", 1e300),
        ({"id": 7}, "id", "7"),
        ({"id": "\ud800"}, "id", "\ud800"),
        ({"id": {"a": 1}, "prompt": {"game_id": 9}}, "id", "9"),
        ({"tool_calls": [{}, {}]}, "tools", 2),
        ({"error": "gone"}, "failure", "gone"),
        ({"error": {"type": None}}, "failure", "error"),
        ({"_ng_failure_class": "timeout_exceeded"}, "failure", "timeout_exceeded"),
        ({"finish": "length"}, "truncated", True),
        ({"truncated": "true", "finish": None}, "truncated", True),
    ],
)
def test_fields_that_others_wrote_otherwise_spoil_no_other(
    tmp_path: Path, changed: dict[str, Any], name: str, found: Any
) -> None:
    row = {"id": "p", "repeat": 0, "reward": 0.5, **changed}
    follower = follow(rows.write(tmp_path / "r.jsonl", [row, {"id": "q", "reward": 1}]))
    assert values(follower, name, state="all")[0] == found
    assert follower.columns.count == 2


def test_bad_lines_are_counted_and_named(tmp_path: Path) -> None:
    lines = rows.lines([rows.game(0, n) for n in range(72)]).splitlines()
    lines += [
        b'{"id": "torn',
        *lines[:3],
        b"[1, 2]",
        b"\xff\xfe",
        b"",
        b"{" + b'"a":[' * 5000,
        b'{"schema": 2, "id": "x"}',
    ]
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    follower = follow(tmp_path / "r.jsonl")
    assert follower.columns.count == 75
    assert follower.bad_lines() == [("r.jsonl", line) for line in (73, 77, 78, 80, 81)]


def test_a_torn_tail_is_no_row_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    whole = rows.lines([rows.game(0, n) for n in range(3)])
    path.write_bytes(whole[:-100])
    follower = follow(path)
    assert follower.columns.count == 2 and follower.torn > 0 and follower.passed_over == 0
    _append(path, whole[-100:])
    assert follower.refresh() and follower.columns.count == 3 and follower.torn == 0
    assert json.loads(follower.read(2))["repeat"] == 2


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def test_the_last_line_of_a_file_may_lack_its_end_but_not_that_of_a_part(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(rows.lines([rows.game(0, 0)])[:-1])
    assert follow(path).columns.count == 1
    assert follow(path, is_collection=True).columns.count == 0
    follower = follow(path)
    _append(path, b"\n" + rows.lines([rows.game(0, 1)]))
    follower.refresh()
    assert [json.loads(follower.read(n))["repeat"] for n in range(2)] == [0, 1] and follower.passed_over == 0


def test_parts_that_appear_are_read_along(tmp_path: Path) -> None:
    rows.write(tmp_path / "parts" / "002-bb.jsonl", [rows.game(1, 0)])
    follower = Follower(Source("c", directory=tmp_path / "parts", kept=tmp_path / "kept", is_collection=True))
    follower.refresh()
    rows.write(tmp_path / "parts" / "001-aa.jsonl", [rows.game(2, 0)])
    _append(tmp_path / "parts" / "002-bb.jsonl", rows.lines([rows.game(3, 0)]))
    follower.refresh()
    assert sorted(values(follower, "id")) == ["puzzle-1", "puzzle-2", "puzzle-3"]
    follower.save(even_if_few=True)
    again = Follower(follower.source)
    assert again.columns.count == 3 and not again.notice
    assert all(json.loads(again.read(n))["id"] == each["id"] for n, each in enumerate(described(again)))


def test_a_kept_index_is_used_and_says_the_same(tmp_path: Path) -> None:
    path = rows.write(
        tmp_path / "r.jsonl", [*(rows.game(a, b) for a in range(9) for b in range(4)), rows.failure(9, 0)]
    )
    first = keep(Source("test", (path,), kept=tmp_path / "kept"))
    again = Follower(first.source)
    assert again.columns.count == 37 and described(again) == described(first)
    assert columns_query.totals(again.columns) == columns_query.totals(first.columns)
    assert not again.refresh() and not again.notice and again.read(5) == first.read(5)


def _replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    os.replace(new, path)


def _rewrite(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"repeat": 1', b'"repeat": 7'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def _grow_from_another(path: Path) -> None:
    path.write_bytes(rows.lines([rows.game(50, n) for n in range(6)]))


@pytest.mark.parametrize("change", [_replace, _rewrite, _grow_from_another])
def test_an_index_of_a_file_that_is_not_what_it_was_is_made_again(tmp_path: Path, change: Any) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.game(1, n) for n in range(4)])
    live = keep(Source("test", (path,), kept=tmp_path / "kept"))
    change(path)
    again = follow(path, tmp_path / "kept")
    assert "not what it was" in again.notice
    live.refresh()
    expected = [json.loads(line)["repeat"] for line in path.read_bytes().splitlines()]
    assert values(again, "repeat", state="all") == values(live, "repeat", state="all") == expected
    assert live.generation == 1


@pytest.mark.parametrize("harm", [b"", b"holdfast columns 1\n", None, b"holdfast columns 9\n" + b"\0" * 500])
def test_a_damaged_index_is_made_again(tmp_path: Path, harm: bytes | None) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.game(1, n) for n in range(4)])
    source = keep(Source("test", (path,), kept=tmp_path / "kept")).source
    whole = (tmp_path / "kept").read_bytes()
    (tmp_path / "kept").write_bytes(whole[: len(whole) // 2] if harm is None else harm)
    again = Follower(source)
    again.refresh()
    assert again.columns.count == 4 and "made again" in again.notice and len(described(again)) == 4
    assert again.save(even_if_few=True) and not Follower(source).notice


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_to_an_index_shows_what_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("harm")
    path = rows.write(place / "r.jsonl", [rows.game(1, n) for n in range(4)])
    source = keep(Source("test", (path,), kept=place / "kept")).source
    content = bytearray((place / "kept").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (place / "kept").write_bytes(bytes(content))
    again = Follower(source)
    again.refresh()
    assert [again.read(number) for number in range(again.columns.count)] == path.read_bytes().splitlines()
    assert values(again, "repeat") == [0, 1, 2, 3]


def test_a_row_that_moved_is_said_and_not_shown(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.game(1, n) for n in range(4)])
    follower = follow(path)
    path.write_bytes(rows.lines([rows.game(2, n) for n in range(4)]))
    with pytest.raises(UserError, match="not where it was"):
        follower.read(2)
    follower.refresh()
    assert json.loads(follower.read(2))["id"] == "puzzle-2"


def test_an_index_that_cannot_be_kept_is_no_reason_to_show_nothing(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.game(1, 0)])
    (tmp_path / "in the way").write_text("")
    follower = follow(path, tmp_path / "in the way" / "kept")
    assert not follower.save(even_if_few=True) and "cannot be kept" in follower.notice and follower.columns.count == 1


def test_of_many_tries_the_one_that_counts_is_the_first_to_finish_or_the_last_failure() -> None:
    prompt = np.array([0, 0, 0, 1, 1, 2, 2, 0])
    repeat = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    failed = np.array([True, False, False, True, True, False, True, False])
    finished = np.array([1.0, 9.0, 5.0, 1.0, 2.0, 3.0, 1.0, 1.0])
    assert judge(prompt, repeat, failed, finished).tolist() == [
        RETRIED, TWICE, COUNTED, RETRIED, COUNTED, COUNTED, RETRIED, COUNTED,
    ]  # fmt: skip


row_lists = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.one_of(st.none(), st.integers(-3, 3)), st.integers(0, 30)),
    max_size=40,
)


@settings(deadline=None)
@given(row_lists, st.sampled_from(["counted", "graded", "failed", "superseded", "all"]), st.booleans())
def test_lists_are_what_going_through_the_rows_would_give(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int, int | None, int]], state: Any, descending: bool
) -> None:
    told: list[dict[str, Any]] = [
        {"id": f"p{p}", "repeat": r, "timing": {"started": 0, "finished": f}}
        | ({"error": {"type": "timeout"}} if reward is None else {"reward": reward})
        for p, r, reward, f in made
    ]
    follower = follow(rows.write(tmp_path_factory.mktemp("rows") / "r.jsonl", told))
    counted = set()
    for key in {(row["id"], row["repeat"]) for row in told}:
        same = [(n, row) for n, row in enumerate(told) if (row["id"], row["repeat"]) == key]
        good = [(row["timing"]["finished"], n) for n, row in same if "reward" in row]
        counted.add(min(good)[1] if good else min((-row["timing"]["finished"], n) for n, row in same)[1])
    wanted = {
        "counted": counted,
        "graded": {n for n in counted if "reward" in told[n]},
        "failed": {n for n in counted if "error" in told[n]},
        "superseded": set(range(len(told))) - counted,
        "all": set(range(len(told))),
    }[state]
    found = columns_query.order(follower.columns, Filter(state=state), "reward", descending=descending).tolist()
    sign = -1 if descending else 1
    assert found == sorted(wanted, key=lambda n: (sign * told[n].get("reward", 99 * sign), n))


@pytest.mark.parametrize("spread", [range(10), range(500)])
def test_a_bar_of_the_histogram_finds_exactly_its_rows(tmp_path: Path, spread: range) -> None:
    told = [{"id": str(n), "repeat": 0, "reward": (n * 37 % len(spread)) / 7} for n in range(1000)]
    follower = follow(rows.write(tmp_path / "r.jsonl", told))
    bars = columns_query.histogram(follower.columns, Filter(), "reward", 40)
    assert sum(bar.rows for bar in bars) == 1000 and 1 < len(bars) <= 40
    for bar in bars:
        assert columns_query.mask(follower.columns, Filter(reward_min=bar.low, reward_max=bar.high)).sum() == bar.rows


def test_a_range_never_finds_what_has_no_value(tmp_path: Path) -> None:
    told = [{"id": "a", "reward": 1}, {"id": "b", "reward": 1, "num_steps": 3}, {"id": "c"}]
    follower = follow(rows.write(tmp_path / "r.jsonl", told))
    assert values(follower, "id", steps_max=5) == ["b"]
    assert values(follower, "id", reward_max=5) == ["a", "b"]


@given(st.lists(st.text(max_size=6), min_size=1, max_size=12, unique=True), st.text(min_size=1, max_size=3))
def test_a_search_finds_every_id_that_holds_it(ids: list[str], wanted: str) -> None:
    from holdfast.rollouts.columns_names import Names

    names = Names()
    for each in ids:
        names.number(each)

    def lower(text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass").lower()

    expected = [n for n, each in enumerate(ids) if lower(wanted) in lower(each)]
    if "\0" not in wanted:
        assert names.search(wanted).tolist() == expected


def test_a_line_of_a_gigabyte_of_brackets_is_no_row() -> None:
    assert read_head(b"[" * 1_000_000) is None
    assert read_head(b'{"id": ' + b"[" * 100_000 + b"}") is None


def test_columns_can_be_written_while_rows_arrive(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "r.jsonl", [rows.game(1, 0)])
    follower = follow(path)
    columns_file.save(tmp_path / "one", follower.columns, {})
    _append(path, rows.lines([rows.game(1, n) for n in range(1, 9)]))
    follower.refresh()
    found, _ = columns_file.load(tmp_path / "one")
    assert found.count == 1 and follower.columns.count == 9
