"""Exactly N rollouts of each prompt, whatever dies; and a command that, typed again, owes only the difference."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.runs import claims, hold, key_of, processes_of, start, status, wait_until

FIELDS = (
    "schema id repeat prompt response reward success num_steps seed usage timing attempt tries finish messages turns"
)


def write_config(directory: Path, name: str = "sums", arguments: tuple[str, ...] = (), **more: Any) -> Path:
    """A config of 20 sums, 3 times each, through the fake engine, which notes what it was asked."""
    log = ["--log", str(directory / "asked.jsonl")]
    content: dict[str, Any] = {
        "name": name,
        "model": "fake",
        "repeats": 3,
        "environment": {"name": "arithmetic", "settings": {"count": 20}},
        "engine": {"name": "fake", "arguments": [*log, "--accuracy", "0.5", *arguments]},
        "collection": {"in_flight": 8, "patience": 2.0},
    }
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps({**content, **more}))
    return path


def write_prompts(directory: Path, rows: list[dict[str, Any]], name: str = "prompts.jsonl") -> Path:
    (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory / name


def poison(directory: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    """A config of episodes of our own on a prompt set."""
    prompts = write_prompts(directory, rows)
    environment = {"name": "tests.rollouts.episodes:Poison", "settings": {}}
    return write_config(directory, environment=environment, prompts=prompts.name, **more)


def asked(directory: Path) -> int:
    path = directory / "asked.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def rows_of(root: Path, name: str = "sums") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "rollouts" / name / "rollouts.jsonl").read_text().splitlines()]


def ended(command: subprocess.Popen[str]) -> int:
    """Its exit code, once it has ended."""
    command.communicate(timeout=60)
    return command.returncode


def check_whole(rows: list[dict[str, Any]], prompts: int = 20, repeats: int = 3) -> None:
    """Every repeat of every prompt once, in order."""
    assert len(rows) == prompts * repeats
    counts = Counter(row["id"] for row in rows)
    assert len(counts) == prompts and set(counts.values()) == {repeats}
    assert [row["repeat"] for row in rows] == list(range(repeats)) * prompts


def test_one_command_collects_every_repeat_of_every_prompt_in_order(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    done = hold(root, "rollout", "run", str(config), "--wait", code=0)
    check_whole(rows_of(root))
    row = rows_of(root)[0]
    assert set(FIELDS.split()) <= row.keys()
    assert row["response"]["finish_reason"] == "stop" and row["response"]["output"][0]["type"] == "message"
    home = root / "rollouts" / "sums"
    metrics = json.loads((home / "metrics.json").read_text())
    assert metrics["coverage"]["done"] == metrics["coverage"]["expected"] == 60
    assert "60 of 60" in done.stdout and "60 rollouts" in done.stderr
    assert (home / "failures.jsonl").read_text() == ""
    assert "attempt 1" in (home / "logs" / "rollout_collection.log").read_text()
    assert (home / "logs" / "engine.log").exists()
    wait_until(lambda: not processes_of(root))  # nothing is left running


def test_typed_again_it_asks_for_nothing_and_more_repeats_for_the_difference(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    assert asked(tmp_path) == 60
    said = hold(root, "rollout", "run", str(config), "repeats=5", "--wait", code=0).stderr
    assert asked(tmp_path) == 100 and "sums-20x5" in said
    check_whole(rows_of(root, "sums-20x5"), repeats=5)
    check_whole(rows_of(root))


def test_appended_prompts_owe_only_the_difference_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    rows = [{"id": f"p{number}", "number": number} for number in range(6)]
    config = poison(tmp_path, rows[:4])
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    write_prompts(tmp_path, rows)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    assert asked(tmp_path) == 18
    check_whole(rows_of(root, "sums-6x3"), prompts=6)
    write_prompts(tmp_path, [{**rows[0], "number": 7}, *rows[1:]])
    hold(root, "rollout", "run", str(config), "name=other", "--wait", code=1)
    assert "1 prompts are not those of the rollouts that are there, such as ['p0']" in status(root, "other")["reason"]
    assert asked(tmp_path) == 18 and len(claims(root, "other")) == 1, "a mistake is not tried again"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sampling.temperature=0.5", "params.temperature is 1.0 there, 0.5 here"),
        ("environment.settings.format=raw", "format"),
        ("model=other", "params.model is 'fake' there, 'other' here"),
        ("rollout.turns=2", "params.turns is None there, 2 here"),
    ],
)
def test_a_changed_collection_is_refused_with_the_difference(tmp_path: Path, change: str, says: str) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    done = hold(root, "rollout", "run", str(config), change, code=2)
    assert says in done.stderr and "--new starts beside them" in done.stderr
    hold(root, "rollout", "run", str(config), change, "--new", "--wait", code=0)
    assert asked(tmp_path) == 120


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["repeat=3"], "did you mean `repeats`"),
        (["environment.settings.cont=3"], "did you mean `count`"),
        (["environment.name=arithmetik"], "did you mean `arithmetic`"),
        (["engine.name=vlm"], "did you mean `vllm`"),
        (["environment.name=tetris", "environment.settings={}"], "add `prompts: FILE.jsonl`"),
        (["prompts=x.jsonl"], "has prompts of its own"),
        (["collection.durability=never"], "collection.durability"),
        (["model=null"], "needs model"),
    ],
)
def test_a_config_that_cannot_be_meant_is_one_line_with_a_way_out(tmp_path: Path, tokens: list[str], says: str) -> None:
    done = hold(tmp_path / "root", "rollout", "run", str(write_config(tmp_path)), *tokens, code=2)
    assert says in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([json.dumps({"id": str(n)}) for n in range(72)] + ["{nonsense"], "line 73"),
        (['{"id": "a", "number": 1}', '{"id": "a", "number": 2}'], "has the id 'a'"),
        ([], "there are no prompts in"),
    ],
)
def test_a_prompt_set_that_cannot_be_meant_is_named_by_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    config = poison(tmp_path, [])
    (tmp_path / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    done = hold(tmp_path / "root", "rollout", "run", str(config), code=2)
    assert says in done.stderr and "Traceback" not in done.stderr


def test_an_engine_that_dies_again_and_again_is_started_again_by_itself(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--dies-after", "25", "--latency", "0.02"))
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    check_whole(rows_of(root))
    assert 3 <= len(claims(root, "sums")) <= 6
    assert "attempt 3" in (root / "rollouts" / "sums" / "logs" / "engine.log").read_text()


def test_once_is_a_single_try_and_the_same_command_goes_on(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--dies-after", "40", "--latency", "0.02"))
    hold(root, "rollout", "run", str(config), "--wait", "--once", code=1)
    assert len(claims(root, "sums")) == 1 and "service engine ended" in status(root, "sums")["reason"]
    hold(root, "rollout", "run", str(config), "--wait", "--once", code=0)
    check_whole(rows_of(root))


def test_without_progress_it_is_not_tried_for_ever(tmp_path: Path) -> None:
    collection = {"in_flight": 8, "patience": 2.0, "retries": 2}
    config = write_config(tmp_path, arguments=("--dies-after", "0"), collection=collection)
    hold(tmp_path / "root", "rollout", "run", str(config), "--wait", code=1)
    assert "2 attempts in a row without progress" in status(tmp_path / "root", "sums")["reason"]
    assert len(claims(tmp_path / "root", "sums")) == 2


def test_an_engine_that_hangs_is_a_stall_and_is_started_again(tmp_path: Path) -> None:
    collection = {"in_flight": 8, "patience": 2.0, "stall": 1.5}
    config = write_config(tmp_path, arguments=("--hangs-after", "40"), collection=collection)
    hold(tmp_path / "root", "rollout", "run", str(config), "--wait", code=0)
    check_whole(rows_of(tmp_path / "root"))
    failures = (tmp_path / "root" / "rollouts" / "sums" / "failures.jsonl").read_text().splitlines()
    assert {json.loads(line)["type"] for line in failures} == {"stalled"}
    first = json.loads(failures[0])
    assert {"id", "repeat", "number", "attempt", "type", "message"} <= first.keys() and first["attempt"] == 1


def test_an_engine_that_never_starts_says_its_last_line_and_is_not_tried_again(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--no-such-option",))
    hold(root, "rollout", "run", str(config), "--wait", code=1)
    reason = status(root, "sums")["reason"]
    assert "unrecognized arguments: --no-such-option" in reason and "never started" in reason
    assert len(claims(root, "sums")) == 1


def test_an_engine_that_is_never_ready_is_given_up_in_time(tmp_path: Path) -> None:
    engine = {"name": "fake", "arguments": ["--never-ready"], "ready_within": 1.0}
    config = write_config(tmp_path, engine=engine)
    hold(tmp_path / "root", "rollout", "run", str(config), "--wait", code=1)
    assert "did not answer /health within 1 s, and printed nothing" in status(tmp_path / "root", "sums")["reason"]


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = write_config(tmp_path, engine={"name": "fake", "port": port, "arguments": []})
        hold(tmp_path / "root", "rollout", "run", str(config), "--wait", code=1)
    assert f"cannot have port {port} of 127.0.0.1: it is taken" in status(tmp_path / "root", "sums")["reason"]
    hold(tmp_path / "root", "rollout", "run", str(config), "--wait", code=0)


def test_what_always_fails_is_given_up_after_three_and_published_without_when_accepted(tmp_path: Path) -> None:
    rows = [{"id": f"p{number}", "number": number, "poison": number == 2} for number in range(5)]
    root, config = tmp_path / "root", poison(tmp_path, rows)
    hold(root, "rollout", "run", str(config), "--wait", code=1)
    reason = status(root, "sums")["reason"]
    assert "3 of 15 rollouts were given up after 3 failures each: 3 env_error; the first: env_error" in reason
    assert len(claims(root, "sums")) == 1, "what is given up is not tried again by itself"
    owed = json.loads(hold(root, "rollout", "owed", "sums", "--json", code=3).stdout)
    assert (owed["owed"], owed["given_up"]) == (3, 3)
    assert owed["prompts"][0]["id"] == "p2" and owed["prompts"][0]["owed"] == [0, 1, 2]
    assert "given up after 3 failures, the last: env_error" in hold(root, "rollout", "owed", "sums").stdout
    before = asked(tmp_path)
    hold(root, "rollout", "run", str(config), "--accept-missing", "3", "--wait", code=0)
    assert asked(tmp_path) == before and len(rows_of(root)) == 12
    metrics = json.loads((root / "rollouts" / "sums" / "metrics.json").read_text())
    assert metrics["coverage"]["failed"] == {"env_error": 3} and metrics["identity"]["accept_missing"] == 3
    failures = [json.loads(line) for line in (root / "rollouts" / "sums" / "failures.jsonl").read_text().splitlines()]
    assert Counter(each["number"] for each in failures) == {1: 3, 2: 3, 3: 3}


def test_a_collector_killed_at_any_time_is_followed_by_one_that_owes_the_rest(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--latency", "0.3"))
    command = start(root, "rollout", "run", str(config), "--wait")
    killed = 0
    for _ in range(3):
        aim = asked(tmp_path) + 7
        while asked(tmp_path) < aim and command.poll() is None:
            time.sleep(0.01)
        collectors = [pid for pid, line in processes_of(root).items() if "holdfast.stages" in line and "run" in line]
        for pid in collectors:
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert ended(command) == 0 and killed >= 2
    check_whole(rows_of(root))
    assert asked(tmp_path) <= 60 + killed * 10, "a kill costs what was in flight"


def test_asked_to_stop_it_keeps_what_it_has_and_is_not_tried_again(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--latency", "1"))
    command = start(root, "rollout", "run", str(config), "--wait")
    wait_until(lambda: asked(tmp_path) > 10)
    hold(root, "cancel", "sums", "--wait", code=0)
    assert ended(command) == 3
    assert "cancelled by" in status(root, "sums")["reason"]
    wait_until(lambda: not processes_of(root))
    done = json.loads(hold(root, "rollout", "owed", "sums", "--json").stdout)["done"]
    assert done >= 8
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    check_whole(rows_of(root))
    assert asked(tmp_path) <= 60 + 8


def test_slices_fill_one_collection_and_one_of_them_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--latency", "0.02"))
    hold(root, "rollout", "run", str(config), "--slices", "3", "--max-parallel", "3", "--wait", code=0)
    check_whole(rows_of(root))
    assert asked(tmp_path) == 60
    parts = list(root.glob(".holdfast/collections/*/parts/*.jsonl"))
    assert len(parts) == 3 and len({part.parent for part in parts}) == 1


def test_another_slicing_waits_until_the_older_slices_have_ended(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--latency", "3"))
    hold(root, "rollout", "run", str(config), "--slices", "3", "--max-parallel", "3", code=0)
    wait_until(lambda: asked(tmp_path) > 3)
    for slicing in (["--slices", "2"], []):
        done = hold(root, "rollout", "run", str(config), *slicing, code=2)
        assert "more tasks of another slicing are in flight" in done.stderr
    names = [f"sums_slices/{number}of3" for number in range(3)]
    hold(root, "cancel", *names, "sums", "--wait")
    hold(root, "rollout", "run", str(config), "collection.in_flight=32", "--wait", code=0)
    check_whole(rows_of(root))


def test_two_collectors_at_once_publish_every_rollout_once(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path, arguments=("--latency", "0.05"))
    both = [start(root, "rollout", "run", str(config), "--wait") for _ in range(2)]
    assert [ended(each) for each in both] == [0, 0]
    check_whole(rows_of(root))
    assert asked(tmp_path) == 60, "the second command waits for the first"
    assert key_of(root, "sums")


def test_new_rewards_need_no_engine_and_leave_the_old_ones(tmp_path: Path) -> None:
    rows = [{"id": f"p{number}", "number": number, "worth": number / 10} for number in range(4)]
    root, config = tmp_path / "root", poison(tmp_path, rows)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    before = asked(tmp_path)
    corrected = ("--environment", "tests.rollouts.episodes:Corrected")
    hold(root, "rollout", "rescore", "sums", *corrected, code=0)
    assert asked(tmp_path) == before
    old, new = rows_of(root), rows_of(root, "sums-rescored")
    assert [10 * row["reward"] for row in old] == pytest.approx([row["reward"] for row in new])
    assert [row["messages"] for row in old] == [row["messages"] for row in new]


def test_what_is_exported_for_nemo_gym_comes_back_the_same(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    hold(root, "rollout", "export", "sums", str(tmp_path / "gym"), code=0)
    hold(root, "rollout", "export", "sums", str(tmp_path / "gym"), code=2)
    gym = [json.loads(line) for line in (tmp_path / "gym" / "rollouts.jsonl").read_text().splitlines()]
    inputs = (tmp_path / "gym" / "rollouts_materialized_inputs.jsonl").read_text().splitlines()
    assert {(row["_ng_task_index"], row["_ng_rollout_index"]) for row in gym} == {
        (task, repeat) for task in range(20) for repeat in range(3)
    }
    assert len(inputs) == 60 and json.loads(inputs[0])["responses_create_params"]["input"][0]["role"] == "user"
    hold(root, "rollout", "import", str(tmp_path / "gym" / "rollouts.jsonl"), "--jobname", "back", code=0)
    theirs, ours = rows_of(root, "back"), rows_of(root)
    for field in ("id", "repeat", "reward", "success", "messages", "usage"):
        assert [row[field] for row in theirs] == [row[field] for row in ours], field
    hold(root, "rollout", "rescore", "back", "--environment", "arithmetic", code=0)
    assert [row["reward"] for row in rows_of(root, "back-rescored")] == [row["reward"] for row in ours]


def test_parquet_and_a_directory_for_datasets_hold_every_rollout(tmp_path: Path) -> None:
    import pyarrow.parquet

    root, config = tmp_path / "root", write_config(tmp_path)
    hold(root, "rollout", "run", str(config), "--wait", code=0)
    hold(root, "rollout", "export", "sums", str(tmp_path / "a"), "--to", "parquet", code=0)
    hold(root, "rollout", "export", "sums", str(tmp_path / "b"), "--to", "dataset", code=0)
    for path in (tmp_path / "a" / "rollouts.parquet", next((tmp_path / "b" / "data").iterdir())):
        table = pyarrow.parquet.read_table(path).to_pylist()
        assert [row["reward"] for row in table] == [row["reward"] for row in rows_of(root)]
        assert table[0]["messages"][0]["role"] == "user" and json.loads(table[0]["response"])["output"]
    assert "train-*.parquet" in (tmp_path / "b" / "README.md").read_text()


def test_a_torn_and_a_doubled_line_of_an_imported_file_are_named(tmp_path: Path) -> None:
    row = {"prompt": {"game_id": 1}, "response": {"output": []}, "reward": 9.7, "success": True, "num_steps": 8}
    lines = [json.dumps(row), json.dumps({**row, "reward": -1.0, "success": False}), '{"prompt": {"game_id"']
    (tmp_path / "theirs.jsonl").write_text("\n".join(lines))
    hold(tmp_path / "root", "rollout", "import", str(tmp_path / "theirs.jsonl"), code=0)
    assert [each["reward"] for each in rows_of(tmp_path / "root", "theirs")] == [9.7, -1.0]
    (failure,) = (tmp_path / "root" / "rollouts" / "theirs" / "failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["line"] == 3 and "torn" in json.loads(failure)["message"]


def test_a_dry_run_shows_the_engine_and_writes_nothing(tmp_path: Path) -> None:
    done = hold(tmp_path / "root", "rollout", "run", str(write_config(tmp_path)), "--dry", code=0)
    assert "holdfast.engines.fake" in done.stdout and not (tmp_path / "root").exists()


def test_what_a_chat_template_is_told_reaches_the_engine_and_is_part_of_what_was_asked(tmp_path: Path) -> None:
    root, config = tmp_path / "root", write_config(tmp_path)
    told = "sampling.chat_template_kwargs.enable_thinking=false"
    hold(root, "rollout", "run", str(config), told, "--wait", code=0)
    noted = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert all("chat_template_kwargs" in each["fields"] for each in noted) and len(noted) == 60
    other = told.replace("false", "true")
    assert "enable_thinking" in hold(root, "rollout", "run", str(config), other, "--wait", code=2).stderr
    hold(root, "rollout", "run", str(config), told, "--wait", code=0)
    assert asked(tmp_path) == 60
