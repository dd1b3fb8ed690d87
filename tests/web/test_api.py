"""What the page asks for: bounded, typed, and the same as the rows say."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import runs
from tests.web import rows
from tests.web.viewer import Viewer, viewing

GAMES = [rows.game(prompt, repeat) for prompt in range(30) for repeat in range(8)]
FAILED = [rows.failure(30, n, kind) for n, kind in enumerate(["timeout", "timeout", "context_length"])]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    place = tmp_path_factory.mktemp("api")
    path = rows.write(place / "run" / "rollouts.jsonl", [*GAMES, *FAILED])
    with viewing(path, root=place / "root") as found:
        found.wait_for_rows(243)
        yield found


def test_the_summary_counts_what_is_there(viewer: Viewer) -> None:
    found = viewer.ask("summary")
    totals = found["totals"]
    assert found["name"] == "run/rollouts.jsonl"
    assert (totals["counted"], totals["graded"], totals["failed"], totals["prompts"]) == (243, 240, 3, 31)
    assert totals["succeeded"] == sum(row["success"] for row in GAMES)
    assert totals["mean"] == pytest.approx(sum(row["reward"] for row in GAMES) / 240)
    assert totals["failures"] == {"timeout": 2, "context_length": 1}


def test_pages_of_a_list_are_the_list(viewer: Viewer) -> None:
    pages = [
        viewer.ask("rows", sort="tokens", dir="desc", state="graded", offset=n, limit=50) for n in range(0, 300, 50)
    ]
    found = [row["tokens"] for page in pages for row in page["rows"]]
    assert found == sorted((row["usage"]["completion_tokens"] for row in GAMES), reverse=True)
    assert {page["total"] for page in pages} == {240}


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({"success": "yes"}, lambda row: row.get("success")),
        ({"reward_min": 5}, lambda row: row.get("reward", 0) >= 5),
        (
            {"tokens_max": 500, "state": "graded"},
            lambda row: "usage" in row and row["usage"]["completion_tokens"] <= 500,
        ),
        ({"search": "ZLE-1"}, lambda row: "zle-1" in row["id"]),
        ({"search": "puzzle-1", "truncated": "yes"}, lambda row: "zle-1" in row["id"] and row.get("truncated")),
        ({"failure": "timeout"}, lambda row: row.get("error", {}).get("type") == "timeout"),
        ({"state": "failed"}, lambda row: "error" in row),
        ({"prompt": 3}, lambda row: row["id"] == "puzzle-3"),
        ({"search": "no such"}, lambda row: False),
        ({"failure": "no such"}, lambda row: False),
    ],
)
def test_filters_find_what_they_say(viewer: Viewer, asked: dict[str, Any], holds: Any) -> None:
    found = viewer.ask("rows", limit=500, **asked)
    expected = [n for n, row in enumerate([*GAMES, *FAILED]) if holds(row)]
    assert [row["n"] for row in found["rows"]] == expected and found["total"] == len(expected)


def test_a_rollout_comes_with_its_messages_and_the_rewards_of_its_turns(viewer: Viewer) -> None:
    found = viewer.ask("row/17")
    row = GAMES[17]
    assert [message["role"] for message in found["messages"]] == [message["role"] for message in row["messages"]]
    said = [message for message in found["messages"] if message["role"] == "assistant"]
    assert [message["reward"] for message in said] == [turn["reward"] for turn in row["turns"]]
    assert said[0]["calls"][0]["name"] == "step" and "actions" in said[0]["calls"][0]["arguments"]["text"]
    assert found["turns"] == row["turns"] and found["given"]["seed"] == row["prompt"]["seed"]
    assert json.loads(viewer.send("/api/row/17/raw").body) == row


def test_the_repeats_of_a_prompt_come_together(viewer: Viewer) -> None:
    found = viewer.ask("prompt/4")
    assert found["id"] == "puzzle-4" and [row["repeat"] for row in found["rows"]] == list(range(8))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("rows?limit=501", 400), ("rows?limit=0", 400), ("rows?offset=-1", 400), ("rows?sort=part", 400),
        ("rows?sort=__class__", 400), ("rows?reward_min=abc", 400), ("rows?nonsense=1", 400), ("rows?state=gone", 400),
        ("rows?search=" + "x" * 300, 400), ("rows?reward_min=nan", 200), ("rows?offset=99999999", 200),
        ("histogram?bins=100000", 400), ("histogram?measure=offset", 400), ("row/243", 404), ("row/x", 404),
        ("row/0?start=-1", 400), ("row/0/text?at=/nowhere", 404), ("row/0/text", 400), ("row/0/text?at=/turns/-1", 404),
        ("prompt/31", 404), ("prompt/-1", 404), ("nothing", 404), ("summary?x=1", 400),
    ],
)  # fmt: skip
def test_impossible_questions_are_answered_in_json(viewer: Viewer, path: str, status: int) -> None:
    found = viewer.send(f"/api/{path}")
    assert found.status == status and found.headers["content-type"] == "application/json"
    assert status == 200 or found.content["error"]


def test_streams_are_bounded_and_end_with_their_page(viewer: Viewer) -> None:
    def open_stream() -> socket.socket:
        stream = socket.create_connection(("127.0.0.1", viewer.port), timeout=10)
        stream.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return stream

    streams = [open_stream() for _ in range(32)]
    for stream in streams:
        assert b"200 OK" in stream.recv(100)
    assert viewer.send("/api/events").status == 503
    for stream in streams:
        stream.close()
    viewer.wait(lambda _: b"200" in _first_line(open_stream()))


def _first_line(stream: socket.socket) -> bytes:
    with stream:
        return stream.recv(100).splitlines()[0]


def test_many_questions_at_once_are_all_answered(viewer: Viewer) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        found = viewer.ask("rows", sort="reward", reward_min=-number, limit=5)
        wrong.extend([] if len(found["rows"]) == 5 else [found])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_rows_appear_while_they_are_written_and_a_torn_tail_waits(tmp_path: Path) -> None:
    parts = tmp_path / "c0ffee" / "parts"
    whole = rows.lines(GAMES[:20])
    parts.mkdir(parents=True)
    (parts / "001-aa.jsonl").write_bytes(whole[:-50])
    with viewing(parts.parent, root=tmp_path / "root") as viewer:
        state = viewer.wait_for_rows(19)["state"]
        assert state["torn"] > 0 and state["passed_over"] == 0
        rows.write(parts / "002-bb.jsonl", GAMES[20:40])
        viewer.wait_for_rows(39)
        with open(parts / "001-aa.jsonl", "ab") as file:
            file.write(whole[-50:])
        assert viewer.wait_for_rows(40)["state"]["torn"] == 0
        assert viewer.ask("row/39")["repeat"] == GAMES[19]["repeat"]


def test_a_file_that_is_replaced_is_shown_as_it_is_now(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "rollouts.jsonl", GAMES[:9])
    with viewing(path, root=tmp_path / "root") as viewer:
        viewer.wait_for_rows(9)
        rows.write(tmp_path / "new", GAMES[20:25]).replace(path)
        found = viewer.wait_for_rows(5)
        assert "not what it was" in found["state"]["notice"]
        assert viewer.ask("row/0")["id"] == GAMES[20]["id"]


def test_a_file_that_goes_away_does_not_end_the_page(tmp_path: Path) -> None:
    path = rows.write(tmp_path / "rollouts.jsonl", GAMES[:9])
    with viewing(path, root=tmp_path / "root") as viewer:
        viewer.wait_for_rows(9)
        path.unlink()
        viewer.wait_for_rows(0)
        rows.write(path, GAMES[:3])
        viewer.wait_for_rows(3)


def test_rows_of_others_are_shown(tmp_path: Path) -> None:
    rows.write(
        tmp_path / "run_failures.jsonl",
        [{"_ng_task_index": 1, "_ng_rollout_index": 0, "_ng_failure_class": "timeout_exceeded"}],
    )
    rows.write(tmp_path / "run_materialized_inputs.jsonl", [{"_ng_task_index": 1}])
    path = rows.write(
        tmp_path / "run.jsonl", [rows.nemo_gym(0, 0), rows.document(7), {"prompt": "Hi", "response": "Ho", "reward": 1}]
    )
    with viewing(path, root=tmp_path / "root") as viewer:
        assert viewer.wait_for_rows(4)["totals"]["failures"] == {"timeout_exceeded": 1}
        gym = viewer.ask("row/0")["messages"]
        assert [(message["role"], message["text"]["text"]) for message in gym[:2]] == [
            ("user", "Task 0"),
            ("assistant", ""),
        ]
        assert gym[1]["reasoning"]["text"] == "First I look." and gym[2]["calls"][0]["name"] == "step"
        assert gym[3]["role"] == "tool" and gym[3]["reward"] == 0 and gym[4]["text"]["text"] == "Done 0."
        document = viewer.ask("row/1")
        assert document["messages"][0]["text"]["text"] == "Play 7" and document["given"]["dim_board"] == [5, 5]
        assert [message["text"]["text"] for message in viewer.ask("row/2")["messages"]] == ["Hi", "Ho"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda place: "no-such-stage", "no stage is called"),
        (lambda place: str(place / "nowhere" / "rollouts.jsonl"), "there is no file"),
        (lambda place: str(place), "no rows in"),
    ],
)
def test_what_cannot_be_shown_is_said_with_a_way_out(tmp_path: Path, make: Any, says: str) -> None:
    from holdfast.core.errors import UserError
    from holdfast.core.store import Store
    from holdfast.web import find

    with pytest.raises(UserError, match=says) as caught:
        find.find(make(tmp_path), Store(tmp_path / "root"))
    assert caught.value.hint


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    from holdfast.core.errors import UserError
    from holdfast.web.server import Address, listen

    with listen(Address()) as first, listen(Address()) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        with pytest.raises(UserError, match="cannot listen"):
            listen(Address(port=first.getsockname()[1]))


def test_a_stage_is_shown_while_it_runs_and_when_it_is_done(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    params = {"environment": "addition", "settings": {"count": 30}, "repeats": 2, "in_flight": 1, "engine": "fake"}
    params["engine_arguments"] = ["--latency", "0.2"]
    stage = {"kind": "evaluate", "params": params, "inputs": {"model": str(tmp_path / "model")}}
    plan = runs.write_plan(tmp_path / "plan.yaml", {"scores": stage})
    runs.hold(root, "run", str(plan), code=0)
    collections = root / ".holdfast" / "collections"
    runs.wait_until(lambda: any(part.stat().st_size for part in collections.glob("*/parts/*.jsonl")))
    with viewing("scores", root=root) as viewer:
        found = viewer.wait(lambda found: found["totals"]["rows"] > 0)
        assert found["totals"]["rows"] < 60 and found["name"] == "scores" and found["environment"] == "addition"
        viewer.wait_for_rows(60)
    runs.wait_until((root / "evals" / "scores" / "rows.jsonl").is_file)
    with viewing("evals/scores", root=root) as viewer:
        viewer.wait_for_rows(60)
        assert [message["role"] for message in viewer.ask("row/0")["messages"]] == ["user", "assistant"]


def test_the_second_opening_reads_nothing_again(tmp_path: Path) -> None:
    path = rows.write(
        tmp_path / "root" / "rollouts" / "x" / "rollouts.jsonl",
        [rows.game(a, b) for a in range(200) for b in range(12)],
    )
    (tmp_path / "root" / ".holdfast").mkdir()
    with viewing(path, root=tmp_path / "root") as viewer:
        viewer.wait_for_rows(2400)
    (kept,) = (tmp_path / "root" / ".holdfast" / "columns").iterdir()
    before = kept.stat()
    with viewing(path.parent, root=tmp_path / "root") as viewer:
        assert viewer.ask("summary")["totals"]["rows"] == 2400  # at once, with the first question
    assert kept.stat().st_mtime_ns == before.st_mtime_ns
    assert not (tmp_path / "cache").exists() and sorted(path.parent.iterdir()) == [path]
