"""An evaluation asks for what is owed and nothing else, and a broken engine never passes for a bad model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests import runs
from tests.rollouts.fake_engine import running
from tests.tiny import make_output

from holdfast.core.errors import ConfigError, HoldfastError, Stopped
from holdfast.core.stage import Ref
from holdfast.environments.addition import answer
from holdfast.stages.evaluate import Evaluate

KIND = Evaluate()
PARAMS: dict[str, Any] = {"environment": "addition", "settings": {"count": 60}, "repeats": 2, "step": 75}
DIGESTS = {"model": "m" * 64}
PROGRAM = """
import json, sys
from pathlib import Path
from holdfast.stages.evaluate import Evaluate
from tests import runs
from tests.rollouts.fake_engine import running
from tests.tiny import make_output
params, directory, url = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
out = make_output(directory, environ={"HOLDFAST_SERVICE_ENGINE": url}, digests=json.loads(sys.argv[4]))
Evaluate().run(Evaluate().parse(params), {"model": directory}, out)
"""


class Engine(ThreadingHTTPServer):
    """Answers right, except that every problem with an even first number gets a wrong answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.status = 200
        self.body = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        time.sleep(self.server.seconds)
        problem = body["prompt"].removesuffix("=")
        text = "0" if int(problem[:2]) % 2 == 0 else answer(problem)
        usage = {"prompt_tokens": 6, "completion_tokens": 3}
        content = json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], "usage": usage})
        data = (self.server.body or content).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    server = Engine()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(engine: Engine, directory: Path, attempt: int = 1, **changes: Any) -> Path:
    """One attempt; the requests that it makes are `engine.asked`."""
    engine.asked.clear()
    out = make_output(directory, attempt, environ={"HOLDFAST_SERVICE_ENGINE": engine.url}, digests=DIGESTS)
    KIND.run(KIND.parse({**PARAMS, **changes}), {"model": directory}, out)
    return out.path


def recorded(directory: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in directory.glob("collections/*/parts/*.jsonl"))


def test_rows_and_metrics_say_what_was_answered(engine: Engine, tmp_path: Path) -> None:
    home = run(engine, tmp_path)
    rows = [json.loads(line) for line in (home / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len({(row["id"], row["repeat"]) for row in rows}) == 120
    fields = "prompt response reward success num_steps schema id repeat seed usage timing attempt"
    assert set(fields.split()) <= rows[0].keys()
    right = sum(int(row["id"][:2]) % 2 for row in rows) / 120
    metrics = json.loads((home / "metrics.json").read_text())
    assert metrics["step"] == 75 and metrics["coverage"]["done"] == metrics["coverage"]["expected"] == 120
    found = metrics["metrics"][0]
    assert found["value"] == pytest.approx(right) and found["low"] < right < found["high"]
    assert (found["k"], found["n_prompts"]) == (2, 60)


def test_the_same_again_asks_for_nothing_and_more_repeats_for_the_difference(engine: Engine, tmp_path: Path) -> None:
    run(engine, tmp_path)
    run(engine, tmp_path, 2)
    assert engine.asked == []
    run(engine, tmp_path, 3, repeats=3)
    assert len(engine.asked) == 60
    run(engine, tmp_path, 4, temperature=0.5)
    assert len(engine.asked) == 120, "other sampling is another collection"


def test_killed_in_the_middle_it_asks_only_for_what_is_owed(engine: Engine, tmp_path: Path) -> None:
    engine.seconds = 0.1
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [json.dumps(PARAMS), str(tmp_path), engine.url, json.dumps(DIGESTS)]
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=environ)
    end = time.monotonic() + 60
    while recorded(tmp_path) < 40 and child.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before, engine.seconds = recorded(tmp_path), 0.0
    assert 40 <= before < 120
    home = run(engine, tmp_path, 2)
    assert len(engine.asked) == 120 - before
    assert len((home / "rows.jsonl").read_text().splitlines()) == 120


def test_only_the_first_request_of_an_attempt_seeds_the_server(engine: Engine, tmp_path: Path) -> None:
    run(engine, tmp_path)
    first = [body["seed"] for body in engine.asked if "seed" in body]
    run(engine, tmp_path, 2, repeats=3)
    second = [body["seed"] for body in engine.asked if "seed" in body]
    assert len(first) == len(second) == 1 and first != second


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [(422, "no such field", "refused: 422"), (200, "<html>", "malformed"), (200, '{"choices": []}', "malformed")],
)
def test_a_broken_engine_is_an_error_and_not_a_bad_model(
    engine: Engine, tmp_path: Path, status: int, body: str, says: str
) -> None:
    engine.status, engine.body = status, body
    with pytest.raises(HoldfastError, match=f"120 of 120 responses failed, the first: {says}"):
        run(engine, tmp_path, tries=1)
    assert not (tmp_path / "home" / "metrics.json").exists()
    engine.status, engine.body = 200, ""
    run(engine, tmp_path, 2)
    assert len(engine.asked) == 120, "what failed is still owed"


def test_an_engine_that_is_gone_is_an_error(tmp_path: Path, engine: Engine) -> None:
    out = make_output(tmp_path, environ={"HOLDFAST_SERVICE_ENGINE": "http://127.0.0.1:9"}, digests=DIGESTS)
    params = KIND.parse({**PARAMS, "settings": {"count": 2}, "repeats": 1, "patience": 0.5})
    with pytest.raises(HoldfastError, match="2 of 2 responses failed, the first: engine_down"):
        KIND.run(params, {"model": tmp_path}, out)


def test_asked_to_stop_it_keeps_what_it_has(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "stop").touch()
    with pytest.raises(Stopped, match="0 of 120"):
        run(engine, tmp_path)


def test_an_unknown_environment_is_refused_with_the_nearest(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(engine, tmp_path, environment="adition")
    assert "did you mean `addition`" in error.value.hint


ROWS = "854e17f8626da6da8356aa9eb066e81ae734a5f64b17f736c77596e8d8dd3aec"
"""Where the rows of PARAMS are since the first version."""
STAND_IN = """#!/bin/sh
# vLLM's command line in, the fake engine out.
[ "$1" = serve ] && [ "$3" = --served-model-name ] && [ "$5 $6 $7" = "--host 127.0.0.1 --port" ] || exit 64
echo "$@" > "$SEEN"
exec {python} -m holdfast.engines.fake --port "$8" --model "$4" --root "$2" --accuracy 0.5
"""


def write_stage(directory: Path, **params: Any) -> Path:
    """A plan of one evaluation of a model that is a file."""
    (directory / "model").mkdir(exist_ok=True)
    (directory / "model" / "config.json").write_text("{}")
    content = {"environment": "addition", "settings": {"count": 20}, "repeats": 2, **params}
    stage = {"kind": "evaluate", "params": content, "inputs": {"model": str(directory / "model")}}
    return runs.write_plan(directory / "plan.yaml", {"score": stage})


def metrics_of(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "evals" / "score" / "metrics.json").read_text())
    return content


def test_an_engine_is_started_asked_and_ended_by_one_command(tmp_path: Path) -> None:
    plan = write_stage(tmp_path, engine="fake", engine_arguments=["--accuracy", "0.5", "--fault", "500@0.2"])
    runs.hold(tmp_path / "root", "run", str(plan), "--wait", code=0)
    found = metrics_of(tmp_path / "root")
    assert found["coverage"]["done"] == found["coverage"]["expected"] == 40 and 0.2 < found["metrics"][0]["value"] < 0.8
    assert found["identity"]["standing"] == ["started for this"]
    runs.wait_until(lambda: not runs.processes_of(tmp_path / "root"))  # nothing is left running


def test_vllm_is_started_as_a_service_with_its_own_command_line(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "vllm"
    program.write_text(STAND_IN.replace("{python}", sys.executable))
    program.chmod(0o755)
    plan = write_stage(tmp_path, engine="vllm", tensor_parallel=2, max_model_len=2048, temperature=0.6, top_k=20)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    runs.hold(tmp_path / "root", "run", str(plan), "--wait", code=0, env={"PATH": path, "SEEN": str(tmp_path / "seen")})
    assert metrics_of(tmp_path / "root")["coverage"]["done"] == 40
    assert "--tensor-parallel-size 2 --max-model-len 2048" in (tmp_path / "seen").read_text()


def test_an_engine_that_is_there_already_is_used_and_its_model_is_only_asserted(tmp_path: Path) -> None:
    with running(tmp_path, "--model", "qwen") as there:
        plan = write_stage(tmp_path, engine="url", url=f"{there.url}/v1")
        runs.hold(tmp_path / "root", "run", str(plan), "--wait", code=0)
        assert len(there.asked()) == 40 and len({each["seed"] for each in there.asked()}) == 40
    assert metrics_of(tmp_path / "root")["identity"]["standing"] == ["asserted"]


def test_an_engine_that_is_there_already_is_proven_by_the_directory_that_it_serves(tmp_path: Path) -> None:
    plan = write_stage(tmp_path, engine="url", url="http://127.0.0.1:1")
    with running(tmp_path, "--root", str(tmp_path / "model")) as there:
        plan.write_text(plan.read_text().replace("http://127.0.0.1:1", there.url))
        runs.hold(tmp_path / "root", "run", str(plan), "--wait", code=0)
    assert metrics_of(tmp_path / "root")["identity"]["standing"] == ["proven"]


def test_where_and_how_fast_it_runs_changes_no_key_and_what_is_drawn_does() -> None:
    def key(**params: Any) -> str:
        return KIND.stage({**PARAMS, **params}, {"model": Ref("m" * 64)}).key

    placed = {"url": "http://h", "tensor_parallel": 8, "in_flight": 1024, "deadline": 5.0, "engine_timeout": 5.0}
    assert {key(), key(**placed), key(top_k=None, stop=[], engine_arguments=[])} == {key()}
    others: list[dict[str, Any]] = [
        {"top_k": 20},
        {"stop": ["x"]},
        {"engine": "vllm"},
        {"dtype": "float16"},
        {"engine_arguments": ["x"]},
    ]
    assert len({key(), *(key(**other) for other in others)}) == 6


def test_rows_that_were_collected_before_are_still_found(engine: Engine, tmp_path: Path) -> None:
    run(engine, tmp_path)
    assert [each.name for each in (tmp_path / "collections").iterdir()] == [ROWS]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"tensor_parallel": 2}, "engine transformers has no tensor_parallel, given 2"),
        ({"min_p": 0.1}, "engine transformers takes no min_p, given 0.1"),
        ({"engine": "vlm"}, "did you mean `vllm`"),
        ({"engine": "url"}, "engine url needs a base URL"),
    ],
)
def test_a_plan_that_its_engine_cannot_follow_is_refused(tmp_path: Path, params: dict[str, Any], says: str) -> None:
    plan = write_stage(tmp_path, **params)
    done = runs.hold(tmp_path / "root", "run", str(plan), code=2)
    assert says in done.stderr and "Traceback" not in done.stderr
