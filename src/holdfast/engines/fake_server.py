"""The server of the fake engine: HTTP/1.1 on a bare asyncio protocol, so that one core answers thousands a second and
every byte can go wrong on purpose.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from holdfast.engines import fake_answers, fake_play
from holdfast.engines.fake_answers import Manner

FAULTS = (
    "500",
    "503",
    "429",
    "400",
    "hang",
    "close",
    "half",
    "garbage",
    "html",
    "shape",
    "empty",
    "abort",
    "context",
)
"""What can go wrong with one request; `special_seed` asks for one of them."""
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 422: "Unprocessable", 429: "Too Many", 503: "Unavailable"}


def special_seed(fault: str) -> int:
    """The seed that makes a request meet this fault."""
    return -1 - FAULTS.index(fault)


class Fault(NamedTuple):
    """Befalls a `share` of the requests, drawn for each, among the `first` that are asked."""

    kind: str
    share: float = 1.0
    first: int = sys.maxsize


@dataclass
class Behaviour:
    """What the server serves, and how badly."""

    model: str = "fake"
    root: str = ""
    manner: Manner = field(default_factory=Manner)
    latency: float = 0.0
    start_delay: float = 0.0
    never_ready: bool = False
    dies_after: int | None = None
    hangs_after: int | None = None
    faults: tuple[Fault, ...] = ()
    refuses: frozenset[str] = frozenset()
    retry_after: float = 0.1
    context: int | None = None
    log: str | None = None


class Engine:
    """What all connections share."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.started = time.monotonic()
        self.asked = 0
        self.running = 0
        self.repeats: Counter[str] = Counter()
        self._log = open(behaviour.log, "ab", buffering=0) if behaviour.log else None  # noqa: SIM115

    @property
    def is_ready(self) -> bool:
        late = time.monotonic() - self.started < self.behaviour.start_delay
        return not (late or self.behaviour.never_ready)

    def count(self, prompt: str, body: Mapping[str, Any]) -> tuple[int, bool]:
        """Number the request, note it, die of it if it is the one too many; whether it is never answered."""
        self.asked += 1
        self.repeats[prompt] += 1
        chosen = self.behaviour
        if self._log:
            noted = {"prompt": prompt, "seed": body.get("seed"), "fields": sorted(body)}
            self._log.write(json.dumps(noted).encode() + b"\n")
        if chosen.dies_after is not None and self.asked > chosen.dies_after:
            os._exit(1)
        return self.asked, chosen.hangs_after is not None and self.asked > chosen.hangs_after

    def fault(self, prompt: str, number: int, seed: Any) -> str | None:
        """What goes wrong with this request."""
        if isinstance(seed, int) and -len(FAULTS) <= seed < 0:
            return FAULTS[-1 - seed]
        for index, each in enumerate(self.behaviour.faults):
            drawn = fake_answers.share(f"{index}\0{prompt}\0{self.repeats[prompt]}")
            if number <= each.first and drawn < each.share:
                return each.kind
        return None


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (request := self._take()) is not None:
            self._serve(*request)

    def _take(self) -> tuple[str, bytes] | None:
        """The path and body of a request that has arrived whole."""
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return None
        self._received = rest[length:]
        return head.split(b" ", 2)[1].decode(), rest[:length]

    def _serve(self, path: str, body: bytes) -> None:
        engine = self._engine
        if path in ("/v1/completions", "/v1/chat/completions"):
            self._generate(path.endswith("chat/completions"), json.loads(body))
        elif path == "/health":
            self._send(200 if engine.is_ready else 503, {})
        elif path == "/v1/models":
            chosen = engine.behaviour
            self._send(200, {"object": "list", "data": [{"id": chosen.model, "root": chosen.root or chosen.model}]})
        elif path == "/metrics":
            self._send_bytes(200, f"vllm:num_requests_running {engine.running}\n".encode())
        else:
            self._send(404, {"error": {"message": f"no {path}"}})

    def _generate(self, is_chat: bool, body: Mapping[str, Any]) -> None:
        chosen = self._engine.behaviour
        prompt = _prompt(body, is_chat)
        number, hangs = self._engine.count(prompt, body)
        unknown = chosen.refuses & body.keys()
        if unknown:
            self._send(422, {"detail": f"Unexpected fields in the request: {set(unknown)}"})
        elif body.get("model") != chosen.model:
            self._send(404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}})
        elif not self._engine.is_ready:
            self._send(503, {"error": {"message": "not ready"}})
        elif chosen.context is not None and (size := _size(body, prompt)) > chosen.context:
            self._send(400, {"error": {"message": f"maximum context length is {chosen.context} tokens, asked {size}"}})
        elif not hangs:
            fault = self._engine.fault(prompt, number, body.get("seed"))
            reply = partial(self._reply, is_chat, prompt, body, fault, self._engine.repeats[prompt])
            self._engine.running += 1
            asyncio.get_running_loop().call_later(chosen.latency, reply)

    def _reply(self, is_chat: bool, prompt: str, body: Mapping[str, Any], fault: str | None, repeat: int) -> None:
        self._engine.running -= 1
        if self._transport.is_closing():
            return
        if fault is not None:
            self._misbehave(fault)
            return
        chosen = self._engine.behaviour
        draw = 0 if body.get("temperature") == 0 else body.get("seed", repeat)
        most = int(body.get("max_tokens", body.get("max_completion_tokens", 16))) * fake_answers.CHARACTERS_PER_TOKEN
        if is_chat:
            play = fake_play.reply(chosen.model, body["messages"], body.get("tools") or (), draw, chosen.manner)
            said, calls = play.text, play.calls
        else:
            said, calls = fake_answers.answer(chosen.model, prompt, draw, chosen.manner), ()
        finish = "length" if len(said) > most else "tool_calls" if calls else "stop"
        self._send(200, _completion(chosen.model, is_chat, prompt, said[:most], finish, calls))

    def _misbehave(self, fault: str) -> None:
        if fault == "hang":
            return
        if fault == "close":
            self._transport.abort()
        elif fault == "garbage":
            self._transport.write(b"\x00\xff no HTTP at all\r\n\r\n")
            self._transport.close()
        elif fault == "half":
            whole = _encode(_completion("fake", False, "", "an answer that is cut off", "stop"))
            self._transport.write(_head(200, len(whole)) + whole[: len(whole) // 2])
            self._transport.close()
        else:
            self._send_bytes(*_BODIES[fault], retry_after=self._engine.behaviour.retry_after)

    def _send(self, status: int, content: Any) -> None:
        self._send_bytes(status, _encode(content))

    def _send_bytes(self, status: int, body: bytes, retry_after: float | None = None) -> None:
        extra = f"Retry-After: {retry_after:g}\r\n" if retry_after is not None and status in (429, 503) else ""
        self._transport.write(_head(status, len(body), extra) + body)


def _encode(content: Any) -> bytes:
    return json.dumps(content).encode()


_BODIES: dict[str, tuple[int, bytes]] = {
    "500": (500, b'{"error": {"message": "CUDA error: an illegal memory access was encountered"}}'),
    "503": (503, b'{"error": {"message": "overloaded"}}'),
    "429": (429, b'{"error": {"message": "too many requests"}}'),
    "400": (400, b'{"error": {"message": "no such thing"}}'),
    "html": (200, b"<html><body>502 Bad Gateway</body></html>"),
    "shape": (200, b'{"choices": [{"text": 3, "finish_reason": null}]}'),
    "empty": (200, b'{"choices": []}'),
    "abort": (200, b'{"choices": [{"text": "hal", "finish_reason": "abort"}]}'),
    "context": (400, b'{"error": {"message": "This model\'s maximum context length is 16 tokens."}}'),
}


def _head(status: int, length: int, extra: str = "") -> bytes:
    line = f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
    return f"{line}Content-Length: {length}\r\n{extra}\r\n".encode()


def _prompt(body: Mapping[str, Any], is_chat: bool) -> str:
    if not is_chat:
        return str(body.get("prompt", ""))
    return str((body.get("messages") or [{}])[-1].get("content") or "")


def _size(body: Mapping[str, Any], prompt: str) -> int:
    """Tokens of a request, with those that it may be answered by."""
    whole = "".join(str(each.get("content") or "") for each in body.get("messages", ())) or prompt
    return fake_answers.count_tokens(whole) + int(body.get("max_tokens", 16))


def _completion(
    model: str, is_chat: bool, prompt: str, text: str, finish: str, calls: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    written = text + "".join(name + arguments for name, arguments in calls)
    sizes = {
        "prompt_tokens": fake_answers.count_tokens(prompt),
        "completion_tokens": fake_answers.count_tokens(written),
    }
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(calls)
        ]
    return {
        "id": "fake",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, **({"message": message} if is_chat else {"text": text})}],
        "usage": {**sizes, "total_tokens": sum(sizes.values())},
    }


async def serve(behaviour: Behaviour, port: int, host: str = "127.0.0.1") -> None:
    """Answer on the loopback until cancelled."""
    engine = Engine(behaviour)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), host, port, backlog=4096, reuse_address=True)
    async with server:
        await server.serve_forever()
