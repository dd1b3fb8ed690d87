"""NeMo Gym's servers, as a real process beside the fake engine: played, dead, slow, and answering nonsense."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.fake_engine import Server, running
from tests.rollouts.play import Result, collect_episodes

from holdfast.core.errors import ConfigError
from holdfast.environments.episodes import load_episodes
from holdfast.environments.prompt_set import OwnPrompts
from holdfast.environments.tool_calls import function

PROGRAM = Path(__file__).with_name("gym_server.py")
NUMBER = {"type": "integer"}
TOOL = {"type": "function", **function("add", "Add.", {"a": NUMBER, "b": NUMBER}, ["a", "b"])["function"]}


class Gym:
    """The server, on a port that it keeps when it is started again."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen([sys.executable, str(PROGRAM), self.url.rpartition(":")[2], *options])
        while True:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                self.counts()
                return
            time.sleep(0.02)

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/counts", timeout=10) as response:
            found: dict[str, int] = json.load(response)
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def gym() -> Iterator[Gym]:
    server = Gym()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("engine")) as server:
        yield server


def rows(count: int, interface: str = "tools", **more: Any) -> OwnPrompts:
    """Sums, each a row as NeMo Gym's are."""
    found: dict[str, Any] = {}
    for number in range(count):
        asked: dict[str, Any] = {"input": [{"role": "developer", "content": "You add numbers."}]}
        if interface == "tools":
            asked["input"].append({"role": "user", "content": f"Add {number} and 10 with the tool."})
            asked["tools"] = [TOOL]
        found[f"p{number}"] = {"id": f"p{number}", "a": number, "b": 10, "responses_create_params": asked, **more}
    return OwnPrompts(found)


def ask(directory: Path, engine: Server, gym: Gym, prompts: OwnPrompts, **more: Any) -> Result:
    interface = "tools" if prompts.row("p0")["responses_create_params"].get("tools") else "gymnasium"
    settings = {"server": "sums", "url": gym.url, "interface": interface, "deadline": 5.0, "patience": 20.0}
    settings |= more.pop("settings", {})
    return collect_episodes(directory, engine.url, "nemo_gym", prompts, settings=settings, **more)


def test_tools_are_called_and_the_whole_is_verified_in_its_own_session(
    tmp_path: Path, engine: Server, gym: Gym
) -> None:
    result = ask(tmp_path, engine, gym, rows(20), repeats=3)
    assert len(result.rows) == 60 and {row["reward"] for row in result.rows.values()} == {1.0}
    assert gym.counts() == {"sessions": 60, "closed": 0, "/seed_session": 60, "/add": 60, "/verify": 60}
    row = next(iter(result.rows.values()))
    assert row["success"] and row["terminated"] and row["tool_calls"] == row["num_steps"] == 1
    kinds = [item["type"] for item in row["response"]["output"]]
    assert kinds == ["function_call", "function_call_output", "message"]
    assert row["info"]["sums"] == [10] and "response" not in row["info"]


def test_observations_go_back_and_forth_and_sessions_are_closed(tmp_path: Path, gym: Gym) -> None:
    with running(tmp_path, "--accuracy", "0.5") as unsure:
        result = ask(tmp_path, unsure, gym, rows(20, "gymnasium"))
    assert len(result.rows) == 20 and gym.counts()["closed"] == gym.counts()["sessions"] == 20
    for row in result.rows.values():
        wrong = len(row["turns"]) - 1
        assert row["reward"] == pytest.approx(1 - 0.1 * wrong) and row["terminated"]
    assert max(len(row["turns"]) for row in result.rows.values()) > 1


def test_what_the_model_gets_wrong_is_told_to_it(tmp_path: Path, gym: Gym) -> None:
    """A tool that answers 422 is the model's affair."""
    with running(tmp_path) as engine:
        prompts = rows(1)
        params = prompts.row("p0")["responses_create_params"]
        wrong = {**TOOL, "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
        row = {**prompts.row("p0"), "responses_create_params": {**params, "tools": [wrong]}}
        result = ask(tmp_path, engine, gym, OwnPrompts({"p0": row}))
    (found,) = result.rows.values()
    assert found["reward"] == 0.0 and not result.failures
    assert "must be whole numbers" in next(each for each in found["messages"] if each["role"] == "tool")["content"]


def test_a_tool_that_says_done_ends_it_where_that_is_asked_for(tmp_path: Path, engine: Server, gym: Gym) -> None:
    prompts = rows(3, is_done_at_once=True)
    result = ask(tmp_path, engine, gym, prompts, settings={"done_flag": True})
    assert all(len(row["turns"]) == 1 and row["reward"] == 1.0 and row["terminated"] for row in result.rows.values())


def test_a_limit_is_met_and_what_was_done_is_verified(tmp_path: Path, gym: Gym) -> None:
    with running(tmp_path, "--endless") as engine:
        result = ask(tmp_path, engine, gym, rows(3), tool_calls=4)
    for row in result.rows.values():
        assert row["tool_calls"] == 4 and row["truncated"] and row["info"]["ended"] == "tool_limit"
        assert row["reward"] == 1.0, "the tool was asked for the right sum"


@pytest.mark.parametrize(
    ("path", "fault", "kind"),
    [
        ("/add", "500", "env_error"),
        ("/add", "hang", "env_timeout"),
        *(
            (path, fault, "env_error")
            for path in ("/verify", "/step")
            for fault in ("500", "404", "garbage", "noreward")
        ),
        ("/verify", "hang", "env_timeout"),
        ("/step", "hang", "env_timeout"),
    ],
)
def test_a_server_that_fails_is_no_reward_of_zero(
    tmp_path: Path, engine: Server, gym: Gym, path: str, fault: str, kind: str
) -> None:
    prompts = rows(2, "gymnasium" if path == "/step" else "tools", fault=f"{path}:{fault}")
    result = ask(tmp_path, engine, gym, prompts, settings={"deadline": 0.5})
    assert result.rows == {} and [row["error"]["type"] for row in result.failures] == [kind] * 2
    assert path in result.failures[0]["error"]["message"] or "reward" in result.failures[0]["error"]["message"]
    assert gym.counts()[path] == 2, "nothing within a session is sent twice"


def test_a_session_that_cannot_begin_is_tried_for_a_while_and_no_longer(
    tmp_path: Path, engine: Server, gym: Gym
) -> None:
    result = ask(tmp_path, engine, gym, rows(1, fault="/seed_session:500"), settings={"patience": 1.0})
    assert [row["error"]["type"] for row in result.failures] == ["env_error"]
    assert 2 <= gym.counts()["/seed_session"] <= 6


def test_a_server_that_is_started_again_costs_only_what_it_had_begun(tmp_path: Path, engine: Server, gym: Gym) -> None:
    gym.stop()
    gym.start("--dies-after", "60")

    def start_again() -> None:
        assert gym.process is not None
        gym.process.wait()
        gym.start()

    restart = threading.Thread(target=start_again)
    restart.start()
    first = ask(tmp_path, engine, gym, rows(50))
    restart.join()
    assert len(first.rows) + len(first.failures) == 50 and 1 <= len(first.failures) <= 8
    assert {row["error"]["type"] for row in first.failures} == {"env_error"}
    second = ask(tmp_path, engine, gym, rows(50), attempt=2)
    assert len(second.rows) == 50 and {row["reward"] for row in second.rows.values()} == {1.0}


def test_where_a_server_is_is_no_part_of_what_its_rewards_are() -> None:
    def identity(**settings: Any) -> Any:
        return load_episodes("nemo_gym", {"server": "sums", **settings}).identity()

    here = identity(url="http://one:1")
    assert here == identity(command=["serve", "{port}"], deadline=5.0) == identity(url="http://two:2")
    assert here != identity(url="http://one:1", server_version="2") and here != identity(url="u", interface="gymnasium")


def test_a_server_that_is_to_be_started_is_a_service() -> None:
    service = load_episodes("nemo_gym", {"server": "sums", "command": ["serve", "{port}"]}).service()
    assert service is not None and service.command == ("serve", "{port}")
    assert load_episodes("nemo_gym", {"server": "sums", "url": "http://one:1"}).service() is None


@pytest.mark.parametrize("settings", [{}, {"url": "http://one:1", "command": ["serve"]}])
def test_it_must_be_known_where_the_server_is(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected one") as error:
        load_episodes("nemo_gym", {"server": "sums", **settings})
    assert "`url`" in error.value.hint and "`command`" in error.value.hint
