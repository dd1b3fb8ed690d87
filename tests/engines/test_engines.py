"""Every engine is started as its own documents say, and what it cannot do is refused before it is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import ConfigError
from holdfast.engines import SHIPPED, Engine, load_engine
from holdfast.engines.completions import Sampling

MODEL = Path("/models/qwen")
LISTEN = ["--host", "{host}", "--port", "{port}"]
GPUS: dict[str, Any] = {
    "tensor_parallel": 2,
    "data_parallel": 4,
    "pipeline_parallel": 2,
    "gpu_memory_utilization": 0.85,
    "max_model_len": 32768,
    "dtype": "bfloat16",
    "enforce_eager": True,
    "engine_arguments": ["--quantization", "fp8"],
}


def command(name: str, **serving: Any) -> list[str]:
    service = load_engine(name, serving).service(MODEL, 8192)
    assert service is not None
    return list(service.command)


def test_vllm_is_started_with_little() -> None:
    served = ["serve", "/models/qwen", "--served-model-name", "qwen"]
    assert command("vllm")[1:] == [*served, *LISTEN, "--generation-config", "vllm"]
    assert Path(command("vllm")[0]).name == "vllm"


def test_vllm_is_started_with_everything() -> None:
    parallel = ["--tensor-parallel-size", "2", "--pipeline-parallel-size", "2", "--data-parallel-size", "4"]
    limits = ["--gpu-memory-utilization", "0.85", "--max-model-len", "32768", "--dtype", "bfloat16"]
    found = command("vllm", **GPUS)
    assert found[found.index("--generation-config") + 2 :] == [
        *parallel,
        *limits,
        "--enforce-eager",
        "--quantization",
        "fp8",
    ]


def test_vllm_parses_tool_calls_where_it_is_told_how() -> None:
    found = command("vllm", tool_call_parser="hermes", reasoning_parser="qwen3")
    assert found[found.index("--generation-config") + 2 :] == [
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--reasoning-parser",
        "qwen3",
    ]
    assert command("sglang", tool_call_parser="qwen25")[-2:] == ["--tool-call-parser", "qwen25"]


@pytest.mark.parametrize(("name", "hint"), [("vllm", "tool_call_parser: hermes"), ("transformers", "interface")])
def test_tools_that_an_engine_cannot_have_are_refused_before_it_is_started(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=name) as error:
        load_engine(name).check_tools()
    assert hint in error.value.hint


def test_tools_that_an_engine_can_have_are_not() -> None:
    load_engine("vllm", {"tool_call_parser": "hermes"}).check_tools()
    load_engine("sglang", {"tool_call_parser": "qwen25"}).check_tools()
    load_engine("fake").check_tools()
    load_engine("url", {"url": "http://h"}).check_tools()


def test_sglang_is_started_with_little() -> None:
    program = [sys.executable, "-m", "sglang.launch_server", "--model-path", "/models/qwen"]
    fixed = ["--sampling-defaults", "openai", "--enable-metrics"]
    assert command("sglang") == [*program, "--served-model-name", "qwen", *LISTEN, *fixed]


def test_sglang_is_started_with_everything() -> None:
    parallel = ["--tp-size", "2", "--pp-size", "2", "--dp-size", "4"]
    limits = ["--mem-fraction-static", "0.85", "--context-length", "32768", "--dtype", "bfloat16"]
    found = command("sglang", **GPUS)
    assert found[found.index("--enable-metrics") + 1 :] == [
        *parallel,
        *limits,
        "--disable-cuda-graph",
        "--quantization",
        "fp8",
    ]


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_a_servers_own_defaults_never_decide_how_tokens_are_drawn(name: str) -> None:
    fields = load_engine(name).request_fields(MODEL, Sampling(0.6, 0.95, 4096, top_k=20, stop=("\n",)))
    assert fields == {"temperature": 0.6, "top_p": 0.95, "max_tokens": 4096, "top_k": 20, "stop": ["\n"]}
    assert {"vllm": "vllm", "sglang": "openai"}[name] in command(name)


@pytest.mark.parametrize("name", ["transformers", "url", "fake"])
def test_an_option_that_an_engine_does_not_have_is_refused_with_those_that_have_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has no tensor_parallel, given 2") as error:
        load_engine(name, {"tensor_parallel": 2, "url": "http://h"} if name == "url" else {"tensor_parallel": 2})
    assert "vllm or sglang" in error.value.hint


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load_engine("vlm")
    assert "did you mean `vllm`" in error.value.hint


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load_engine("vllm", {"tensor_paralel": 2})
    assert "tensor_parallel" in error.value.hint


@pytest.mark.parametrize("url", [None, "", "localhost:8000", "ftp://host/v1"])
def test_an_engine_that_is_there_already_needs_its_address(url: str | None) -> None:
    with pytest.raises(ConfigError, match="needs a base URL"):
        load_engine("url", {} if url is None else {"url": url})


def test_a_way_of_drawing_tokens_that_an_engine_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"takes no min_p, given 0\.1"):
        load_engine("transformers").request_fields(MODEL, Sampling(1.0, 1.0, 4, min_p=0.1))


def test_what_is_off_is_no_part_of_the_identity() -> None:
    assert Sampling(1.0, 0.9, 4, top_k=-1, min_p=0.0).given() == {"temperature": 1.0, "top_p": 0.9, "max_tokens": 4}
    assert load_engine("vllm", {"tensor_parallel": 8}).serving.identity() == {}
    assert load_engine("vllm", {"dtype": "float16"}).serving.identity() == {"dtype": "float16"}
    parsed = load_engine("vllm", {"tool_call_parser": "hermes"}).serving.identity()
    assert parsed == {"tool_call_parser": "hermes"}, "the same tokens are other messages"


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "url"])
def test_a_service_waits_for_a_path_of_its_own_engine(name: str) -> None:
    engine = load_engine(name, {"engine_timeout": 42.0})
    service = engine.service(MODEL, 8192)
    assert service is not None and service.ready == engine.capabilities.health and service.timeout == 42.0
    assert any("{port}" in token for token in service.command)


def test_an_engine_of_ones_own_needs_no_registration() -> None:
    assert isinstance(load_engine("tests.engines.test_engines:Own"), Own)


class Own(Engine):
    """Serves by a program that nobody else has."""

    name = "own"
    capabilities = load_engine("vllm").capabilities
    options = frozenset[str]()

    def service(self, model: Path, tokens: int) -> None:
        """Already there."""
