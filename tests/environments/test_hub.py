"""A benchmark that changes under one's feet, or needs the network where there is none, compares nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.runs import environment

from holdfast.environments import hub, load_environment
from holdfast.environments.presets import PRESETS

COMMIT, LATER = "a" * 40, "b" * 40
CARD = """---
configs:
- config_name: main
  data_files:
  - {split: test, path: data/test.jsonl}
- config_name: more
  data_files:
  - {split: test, path: data/more.jsonl}
---
"""
ASK = """
import json, sys
from holdfast.core.errors import UserError
from holdfast.environments import load_environment
try:
    found = load_environment("dataset", json.loads(sys.argv[1]))
    print(json.dumps([found.identity()["dataset"], [[p.text, found.solution(p.id)] for p in found.prompts()]]))
except UserError as error:
    print(json.dumps([str(error), error.hint]))
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of the hub's library that holds one data set at one commit."""
    home = tmp_path / "hf" / "hub" / "datasets--acme--sums"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    data = home / "snapshots" / COMMIT / "data"
    data.mkdir(parents=True)
    (data.parent / "README.md").write_text(CARD)
    (data / "test.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (data / "more.jsonl").write_text('{"question": "2+2", "answer": "4"}\n')
    return tmp_path / "hf"


def ask(cache: Path, **settings: Any) -> list[Any]:
    """What a process with this cache and no network sees: the library reads its settings when it is imported."""
    wanted = {"name": "acme/sums", "problem_key": "question", **settings}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(wanted)],
        env=environment(HF_HOME=str(cache), HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.train
def test_what_is_in_the_cache_is_read_without_a_network_at_its_commit(cache: Path) -> None:
    source, problems = ask(cache, subset=["main", "more"], split="test")
    assert problems == [["1+1", "2"], ["2+2", "4"]]
    assert (source["revision"], source["pinned"]) == (COMMIT, True)
    assert ask(cache, subset="more", revision=COMMIT)[1] == [["2+2", "4"]]


@pytest.mark.train
@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        ({"revision": LATER}, "is not in the cache", f"hf download --repo-type dataset acme/sums --revision {LATER}"),
        ({"name": "acme/other"}, "is not in the cache", "hf download --repo-type dataset acme/other"),
        ({"subset": "mian"}, "'mian' not found", "`subset`"),
        ({"subset": "main", "split": "train"}, 'Unknown split "train"', "`split`"),
    ],
)
def test_what_is_not_there_is_said_with_the_way_out(
    cache: Path, settings: dict[str, Any], says: str, hint: str
) -> None:
    message, found = ask(cache, **settings)
    assert says in message and hint in found


class Hub(BaseHTTPRequestHandler):
    """Knows one data set."""

    def do_GET(self) -> None:
        known = self.path == "/api/datasets/acme/sums/revision/main"
        body = json.dumps({"sha": LATER} if known else {"error": "not found"}).encode()
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_name_is_pinned_to_what_the_cache_has_otherwise_to_what_the_hub_says(cache: Path, endpoint: str) -> None:
    online = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint}
    assert hub.find_commit("acme/sums", None, online) == COMMIT
    elsewhere = {**online, "HF_HOME": str(cache / "empty")}
    assert hub.find_commit("acme/sums", None, elsewhere) == LATER
    assert hub.find_commit("acme/other", None, elsewhere) is None
    assert hub.find_commit("acme/sums", None, {**elsewhere, "HF_HUB_OFFLINE": "1"}) is None
    assert hub.find_commit("acme/sums", COMMIT, {}) == COMMIT
    assert hub.find_commit("acme/sums", None, {**elsewhere, "HF_ENDPOINT": "http://127.0.0.1:9"}) is None


def test_a_name_that_nobody_can_pin_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = load_environment("dataset", {"name": "gsm8k"}).identity()["dataset"]
    assert (found["name"], found["revision"], found["pinned"]) == ("openai/gsm8k", "main", False)


@pytest.mark.parametrize("name", [*PRESETS, "AIME2024", "gpqa_diamond", "mmlu_pro", "HuggingFaceH4/MATH-500"])
def test_every_preset_is_whole_and_yields_to_what_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = load_environment("dataset", {"name": name, "prompt": "Q: {problem}", "revision": COMMIT})
    identity = found.identity()
    assert "/" in identity["dataset"]["name"] and identity["dataset"]["revision"] == COMMIT
    assert found.verifier in {"math", "gsm8k", "multiple_choice"}
    assert found.resolved()["prompt"] == "Q: {problem}"
    again = load_environment("dataset", json.loads(json.dumps(found.resolved())))
    assert again.identity() == identity
