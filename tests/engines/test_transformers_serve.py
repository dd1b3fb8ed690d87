"""The real server must sample as it was told, and leave the machine's memory to others."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.tiny import write_tiny

from holdfast.core.errors import UserError
from holdfast.engines import load_engine
from holdfast.engines.client import connect
from holdfast.engines.completions import Completion, Sampling

pytestmark = [pytest.mark.train, pytest.mark.slow]
MEMORY = 2 * 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model"), 8192)


@pytest.fixture(params=[1.0, 0.0], ids=["sampled", "greedy"])
def temperature(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture
def server(model: Path) -> Iterator[tuple[str, int]]:
    """(URL, process id) of a server that is ready."""
    service = load_engine("transformers").service(model, 8192)
    assert service is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [token.replace("{port}", str(port)).replace("{host}", "127.0.0.1") for token in service.command]
    process = subprocess.Popen(command, env={**os.environ, **service.env}, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}{service.ready}", process)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        assert process.wait(20) is not None


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"not ready, exit code {process.poll()}")


async def ask(url: str, model: Path, sampling: Sampling) -> list[Completion]:
    async with connect(load_engine("transformers"), model, sampling, url) as (client, _):
        return await asyncio.gather(*(client.complete("12+34=", 7 if n == 0 else None) for n in range(40)))


def test_temperature_means_what_it_says_and_memory_stays_small(
    server: tuple[str, int], model: Path, temperature: float
) -> None:
    url, pid = server
    found = asyncio.run(ask(url, model, Sampling(temperature, 1.0, 4)))
    different = len({completion.text for completion in found})
    assert different == 1 if temperature == 0 else different > 20
    assert all(completion.usage["completion_tokens"] <= 4 for completion in found)
    assert all(set(completion.text) <= set("0123456789+=") for completion in found)
    assert psutil.Process(pid).memory_info().rss < MEMORY


def test_a_response_ends_where_an_older_model_says_so_in_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    fields = load_engine("transformers").request_fields(tmp_path, Sampling(1.0, 1.0, 4))
    assert '"eos_token_id": 1' in fields["generation_config"]


def test_top_k_and_more_end_tokens_reach_the_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    sampling = Sampling(1.0, 1.0, 4, top_k=5, stop=("\\n",), stop_token_ids=(1, 9))
    fields = load_engine("transformers").request_fields(tmp_path, sampling)
    config = json.loads(fields["generation_config"])
    assert config["top_k"] == 5 and config["eos_token_id"] == [1, 9]
    assert fields.keys() == {"temperature", "top_p", "max_tokens", "generation_config"}


@pytest.mark.parametrize(
    ("kind", "template", "is_refused"),
    [
        ("qwen3", "{{ messages[0].content }}", True),
        ("qwen3_moe", None, True),
        ("qwen2", "<|im_start|>assistant\n", False),
        ("gemma4_text", "<start_of_turn>model", True),
        ("llama", "{{ messages[0].content }}", False),
    ],
)
def test_a_chat_whose_prompt_the_server_would_answer_with_is_refused(
    kind: str, template: str | None, is_refused: bool, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template} if template else {}))
    engine = load_engine("transformers")
    if not is_refused:
        engine.check_chats(tmp_path)
        return
    with pytest.raises(UserError, match="would take prompts for answers"):
        engine.check_chats(tmp_path)


def test_a_path_that_the_server_would_misread_is_refused() -> None:
    with pytest.raises(UserError, match="revision"):
        load_engine("transformers").service(Path("/data/me@site/model"), 8192)
