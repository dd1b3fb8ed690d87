"""What stands in for an engine must say the same thing every time, or no test that uses it means anything."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.fake_engine import Server, running

from holdfast.engines import fake_answers
from holdfast.engines.fake_answers import Manner
from holdfast.engines.fake_server import FAULTS, special_seed


def post(server: Server, **body: Any) -> dict[str, Any]:
    content = json.dumps({"model": "fake", "max_tokens": 64, **body}).encode()
    request = urllib.request.Request(f"{server.url}/v1/completions", content)
    with urllib.request.urlopen(request, timeout=10) as response:
        found: dict[str, Any] = json.load(response)
    return found


def text(server: Server, **body: Any) -> str:
    return str(post(server, **body)["choices"][0]["text"])


def test_a_response_follows_from_model_prompt_and_seed(tmp_path: Path) -> None:
    prompts = [f"Tell me of {n}." for n in range(5)]
    with running(tmp_path) as first, running(tmp_path) as second:
        said = [text(first, prompt=prompt, seed=1) for prompt in prompts]
        assert said == [text(second, prompt=prompt, seed=1) for prompt in prompts]
        assert len(set(said)) == 5 and text(first, prompt=prompts[0], seed=2) != said[0]


def test_without_a_seed_repeats_differ_and_greedy_ones_do_not(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert len({text(server, prompt="Well?") for _ in range(5)}) == 5
        assert len({text(server, prompt="Well?", temperature=0, seed=n) for n in range(5)}) == 1


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 1.0])
def test_it_adds_right_as_often_as_it_is_told(accuracy: float) -> None:
    said = [fake_answers.answer("m", f"{n}+{n}=", 0, Manner(accuracy)) for n in range(1000)]
    right = sum(each == str(2 * n) for n, each in enumerate(said)) / 1000
    assert abs(right - accuracy) < 0.05


@pytest.mark.parametrize(
    ("prompt", "style", "said"),
    [
        ("What is 6 * 7?", "boxed", "The answer is \\boxed{42}."),
        ("2+2, then 9 - 12", "plain", "-3"),
        ("3x4", "hashes", "Adding up.\n#### 12"),
    ],
)
def test_it_solves_the_last_problem_of_a_prompt(prompt: str, style: str, said: str) -> None:
    assert fake_answers.answer("m", prompt, 0, Manner(style=style)) == said


def test_a_response_ends_at_the_limit_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--words", "50") as server:
        found = post(server, prompt="1+1=", max_tokens=3)
        assert found["choices"][0]["finish_reason"] == "length" and found["usage"]["completion_tokens"] == 3


def test_another_model_is_not_served(tmp_path: Path) -> None:
    with running(tmp_path) as server, pytest.raises(urllib.error.HTTPError, match="404"):
        post(server, model="other", prompt="1+1=")


def test_it_is_ready_when_it_is_told_to_be(tmp_path: Path) -> None:
    def health(server: Server) -> int:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    with running(tmp_path, "--never-ready") as server:
        assert health(server) == 503
    with running(tmp_path, "--start-delay", "0.5") as server:
        while health(server) != 200:
            asyncio.run(asyncio.sleep(0.05))


def test_every_fault_has_a_seed_of_its_own() -> None:
    assert len({special_seed(fault) for fault in FAULTS}) == len(FAULTS)
    assert all(special_seed(fault) < 0 for fault in FAULTS)
