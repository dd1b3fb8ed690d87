"""What is asked of an engine is what was meant, and what goes wrong has a name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rollouts.fake_engine import Server, running

from holdfast.core.errors import ConfigError, UserError
from holdfast.engines import answers, client, load_engine
from holdfast.engines.client import Client, base_url, connect
from holdfast.engines.completions import Completion, EngineError, Sampling
from holdfast.engines.url import Served, judge

PLAIN = Sampling(1.0, 1.0, 16)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def talk(
    server: Server, sampling: Sampling = PLAIN, said: list[str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    engine = load_engine("url", {"url": server.url, **options})
    heard = [] if said is None else said
    async with connect(engine, Path("model"), sampling, server.url, heard.append) as (found, _):
        yield found


def ask(server: Server, text: str = "12+34=", sampling: Sampling = PLAIN, **options: Any) -> Completion:
    async def main() -> Completion:
        async with talk(server, sampling, **options) as found:
            return await found.complete(text, 7)

    return asyncio.run(main())


def test_a_body_holds_what_was_meant_and_nothing_else(engine: Server) -> None:
    assert ask(engine).text == "46"
    assert engine.asked()[-1] == {
        "prompt": "12+34=",
        "seed": 7,
        "fields": ["max_tokens", "model", "prompt", "seed", "temperature", "top_p"],
    }


def test_a_chat_is_answered_by_the_chat_endpoint(engine: Server) -> None:
    async def main() -> Completion:
        async with talk(engine) as found:
            return await found.chat([{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2"}])

    completion = asyncio.run(main())
    assert completion.text == "4" and completion.message == {"role": "assistant", "content": "4"}
    assert "messages" in engine.asked()[-1]["fields"] and "prompt" not in engine.asked()[-1]["fields"]


def test_a_field_that_the_engine_does_not_know_is_left_out_with_one_word_about_it(tmp_path: Path) -> None:
    said: list[str] = []

    async def main(server: Server) -> None:
        async with talk(server, said=said) as found:
            completions = await asyncio.gather(*(found.complete(f"{n}+1=", n) for n in range(20)))
            assert [each.text for each in completions] == [str(n + 1) for n in range(20)]
            assert not found.sends_seeds

    with running(tmp_path, "--refuses", "seed", "--refuses", "top_p") as server:
        asyncio.run(main(server))
        assert server.asked()[-1]["fields"] == ["max_tokens", "model", "prompt", "temperature"]
    assert len(said) == 2 and all("`seed`" in each or "`top_p`" in each for each in said)


def test_a_field_without_which_other_tokens_would_be_drawn_is_never_left_out(tmp_path: Path) -> None:
    with running(tmp_path, "--refuses", "min_p") as server:
        with pytest.raises(EngineError, match=r"min_p=0\.1") as error:
            ask(server, sampling=Sampling(1.0, 1.0, 16, min_p=0.1))
        assert error.value.kind == "refused"


def test_a_response_ends_at_the_text_to_stop_at_also_where_the_engine_cannot_stop(tmp_path: Path) -> None:
    with running(tmp_path, "--style", "hashes") as server:
        completion = ask(server, sampling=Sampling(1.0, 1.0, 64, stop=("####", "never")))
    assert completion.text == "Adding up.\n" and completion.finish == "stop"


@pytest.mark.parametrize(
    ("fault", "kind", "again"),
    [
        ("500", "server", True),
        ("503", "server", True),
        ("429", "rate_limited", True),
        ("400", "refused", False),
        ("context", "context_length", False),
        ("close", "connection", True),
        ("half", "connection", True),
        ("garbage", "malformed", True),
        ("html", "malformed", True),
        ("shape", "malformed", True),
        ("empty", "malformed", True),
        ("abort", "server", True),
    ],
)
def test_what_goes_wrong_has_a_name(tmp_path: Path, fault: str, kind: str, again: bool) -> None:
    with running(tmp_path, "--fault", fault, "--retry-after", "2.5") as server, pytest.raises(EngineError) as error:
        ask(server)
    assert (error.value.kind, error.value.worth_another_try) == (kind, again)
    assert error.value.retry_after == (2.5 if fault in ("429", "503") else None)


def test_an_answer_that_does_not_end_is_not_read_to_its_end(engine: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LARGEST", 100)
    with pytest.raises(EngineError, match="100 bytes") as error:
        ask(engine)
    assert error.value.kind == "too_large"


def test_a_date_to_come_back_at_is_understood() -> None:
    assert client._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert client._seconds("3") == 3.0
    assert client._seconds("soon") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"choices": null}',
        b'{"choices": [{}]}',
        b'{"choices": [{"finish_reason": "stop"}]}',
        b'{"choices": [{"finish_reason": "stop", "message": {"content": 3}}]}',
        b'{"choices": [{"finish_reason": "stop", "text": "a"}, {"finish_reason": "stop", "text": "b"}]}',
        b'{"choices": [{"finish_reason": "stop", "text": "\xff"}]}',
    ],
)
def test_no_other_shape_passes_for_a_response(body: bytes) -> None:
    with pytest.raises(EngineError) as error:
        answers.read(body)
    assert error.value.kind == "malformed"


def test_an_error_with_status_200_is_no_response() -> None:
    with pytest.raises(EngineError) as error:
        answers.read(b'{"error": {"message": "out of memory"}, "choices": []}')
    assert error.value.kind == "server"


def test_a_call_for_a_tool_is_a_message_without_text() -> None:
    body = b'{"choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": [{"id": "1"}]}}]}'
    completion = answers.read(body)
    assert completion.text == "" and completion.message is not None and completion.message["tool_calls"]


def test_a_key_is_read_from_the_environment_and_never_shown(
    tmp_path: Path, engine: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    assert ask(engine, api_key_variable="SOME_KEY").text == "46"

    async def main() -> str:
        async with talk(engine, api_key_variable="SOME_KEY") as found:
            return found._blank("Incorrect API key provided: sk-secret.")

    assert asyncio.run(main()) == "Incorrect API key provided: ***."
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match="SOME_KEY, which is not set"):
        ask(engine, api_key_variable="SOME_KEY")


def test_a_url_may_end_in_v1_or_not() -> None:
    assert {base_url(f"http://h:1{end}") for end in ("", "/", "/v1", "/v1/")} == {"http://h:1"}


def test_the_served_model_is_found_by_itself_or_must_be_there(tmp_path: Path) -> None:
    with running(tmp_path, "--model", "qwen") as server:
        assert ask(server).text == "46"
        with pytest.raises(UserError, match="lists qwen, wanted `llama`"):
            ask(server, served_name="llama")


def test_a_url_where_nothing_is_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no engine answers"):
        ask(Server(Path(), 9))


def test_the_model_behind_a_url_is_proven_only_by_its_contents_on_this_host(tmp_path: Path) -> None:
    for name in ("wanted", "copy", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("other" if name == "other" else "weights")
    wanted = tmp_path / "wanted"
    here, far = "http://127.0.0.1:8000", "http://node7:8000"
    standings = [
        judge(here, Served("m", str(wanted)), wanted),
        judge(here, Served("m", str(tmp_path / "copy")), wanted),
        judge(here, Served("m", str(tmp_path / "other")), wanted),
        judge(here, Served("m", "Qwen/Qwen3-4B"), wanted),
        judge(here, Served("m", ""), wanted),
        judge(far, Served("m", str(wanted)), wanted),
    ]
    assert standings == ["proven", "proven", "asserted", "asserted", "asserted", "asserted"]


def test_health_says_whether_it_can_be_used(tmp_path: Path) -> None:
    async def main(server: Server) -> list[bool]:
        async with talk(server) as found:
            before = await found.is_healthy()
            server.kill()
            return [before, await found.is_healthy()]

    with running(tmp_path) as server:
        assert asyncio.run(main(server)) == [True, False]
    with running(tmp_path, "--never-ready") as server:
        assert asyncio.run(main(server)) == [False, False]
