"""HTTP/1.1 to one server: as much of it as asking an engine needs, and as little memory as waiting can take.

Thousands of requests wait for an engine at a time, each for seconds or minutes. With a general client each of them
holds some 20 KB meanwhile (`docs/decisions/017-a-request-that-waits-is-small.md`); here it is a socket, a future and
nothing of the request. There is no limit on lines (the collection loop has the gate), no proxy, no redirect, no cookie.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeVarTuple
from urllib.parse import quote, urlsplit

from holdfast.engines.http_answer import Answer, NotHttp, Reader, TooLarge

__all__ = ["Answer", "NotHttp", "TooLarge", "Wire"]

LARGEST = 64 * 2**20
"""Bytes of an answer that are read at most."""
IDLE = 15.0
"""Seconds after which a line is not used again: servers close theirs, and a request may cross with that."""
RESOLVED = 300.0
"""Seconds for which the addresses of a name count."""
OPENING = 128
"""Lines that are opened at a time: one that is being opened takes more memory than one that waits."""
RECEIVED = 2**16
Ts = TypeVarTuple("Ts")
_PATH = "/%:@!$&'()*+,;=~-._"


class Wire:
    """Lines to the server at `base`, as many as there are requests at a time. Use it within one event loop."""

    def __init__(
        self, base: str, headers: Mapping[str, str], largest: int = LARGEST, tls: ssl.SSLContext | None = None
    ) -> None:
        """
        Raises:
            ValueError: `base` is no address.
        """
        parts = urlsplit(base)
        host = parts.hostname or ""
        self.base = base
        self._prefix = quote(parts.path.rstrip("/"), safe=_PATH)
        self._host = host if host.isascii() else host.encode("idna").decode()
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = _head_lines(parts.netloc.rpartition("@")[2], {**_credentials(parts), **headers})
        self.largest = largest
        self._addresses: list[tuple[str, int]] = []
        self._resolving = asyncio.Lock()
        self._opening = asyncio.Semaphore(OPENING)
        self._resolved = float("-inf")
        self._idle: list[_Line] = []
        self._lines: set[_Line] = set()
        self.buffer = memoryview(bytearray(RECEIVED))
        """One for all lines: what was received is taken from it before another line receives."""

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in [*self._lines]:
            line.drop()
        await asyncio.sleep(0)  # sockets are closed by the loop

    async def get(self, path: str, seconds: float) -> Answer:
        """What the server answers within so many seconds; raises as `post`, and TimeoutError."""
        request = f"GET {self._prefix}{path} HTTP/1.1\r\n".encode() + self._headers + b"\r\n"
        async with asyncio.timeout(seconds):
            return await self._exchange(lambda: request)

    def post(self, path: str, body: Callable[[*Ts], bytes], *arguments: *Ts) -> Awaitable[Answer]:
        """What the server answers, whatever its status. `body(*arguments)` is made once there is a line to send it on.

        Raises:
            OSError: there is no line, or it was lost.
            NotHttp: the answer is none.
            TooLarge: the answer is too large.
        """
        return self._exchange(self._request, path, body, arguments)

    async def _exchange(self, request: Callable[[*Ts], bytes], *arguments: *Ts) -> Answer:
        line = self._take() or await self._new()
        waiting: asyncio.Future[Answer] | None = None
        try:
            waiting = line.send(request(*arguments))
            return await waiting
        except BaseException:
            if waiting is None or waiting.cancelled():  # otherwise the line may be another's by now
                line.drop()
            raise

    def _request(self, path: str, body: Callable[..., bytes], arguments: tuple[Any, ...]) -> bytes:
        content = body(*arguments)
        first = f"POST {self._prefix}{path} HTTP/1.1\r\n"
        more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        return b"".join((first.encode(), self._headers, more.encode(), content))

    def _take(self) -> _Line | None:
        """A line that was used before and can be again."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            line = self._idle.pop()
            if line.is_usable(now):
                return line
            line.drop()
        return None

    async def _new(self) -> _Line:
        async with self._opening:
            return self._take() or await self._open()

    async def _open(self) -> _Line:
        loop = asyncio.get_running_loop()
        error: OSError | None = None
        for address, port in await self._resolve():
            try:
                _, line = await loop.create_connection(
                    lambda: _Line(self), address, port, ssl=self._tls, server_hostname=self._host if self._tls else None
                )
            except OSError as failed:
                error = error or failed
            else:
                self._lines.add(line)
                return line
        self._resolved = float("-inf")
        raise error or OSError(f"{self._host} has no address")

    async def _resolve(self) -> list[tuple[str, int]]:
        """The addresses of the server, asked for once in a while and not by every line."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._resolved > RESOLVED:
            async with self._resolving:
                if loop.time() - self._resolved > RESOLVED:
                    found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                    self._addresses = [(str(each[4][0]), int(each[4][1])) for each in found]
                    self._resolved = loop.time()
        return self._addresses

    @property
    def idle(self) -> int:
        """Lines that wait for a request."""
        return len(self._idle)

    def give_back(self, line: _Line) -> None:
        """Have it used again."""
        self._idle.append(line)

    def forget(self, line: _Line) -> None:
        """It is closed."""
        self._lines.discard(line)
        with contextlib.suppress(ValueError):
            self._idle.remove(line)


class _Line(asyncio.BufferedProtocol):
    """One connection; one request at a time."""

    __slots__ = ("_idle_since", "_reader", "_transport", "_waiting", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._reader: Reader | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._idle_since = 0.0

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Ask; the answer to come."""
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._settle(ConnectionResetError("the connection was lost"))
        else:
            self._transport.write(request)
        return waiting

    def is_usable(self, now: float) -> bool:
        return self._transport is not None and not self._transport.is_closing() and now - self._idle_since < IDLE

    def drop(self) -> None:
        """Close it, whatever is under way."""
        self._reader = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._wire.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._waiting is None:  # more than was asked for
            self.drop()
            return
        reader = self._reader = self._reader or Reader(self._wire.largest)
        try:
            answer = reader.feed(bytes(self._wire.buffer[:nbytes]))
        except (NotHttp, TooLarge) as error:
            self._settle(error)
            self.drop()
            return
        if answer is not None:
            self._done(answer, reader.may_go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        reader, self._transport = self._reader, None
        self._wire.forget(self)
        try:
            answer = reader.end() if reader is not None and exc is None else None
        except NotHttp as error:
            self._settle(error)
            return
        if answer is not None:
            self._done(answer, False)
        else:
            self._settle(_lost(exc))

    def _done(self, answer: Answer, may_go_on: bool) -> None:
        waiting, self._waiting, self._reader = self._waiting, None, None
        is_awaited = waiting is not None and not waiting.done()
        if is_awaited and may_go_on and self._transport is not None and not self._transport.is_closing():
            self._idle_since = asyncio.get_running_loop().time()
            self._wire.give_back(self)
        else:
            self.drop()
        if waiting is not None and is_awaited:
            waiting.set_result(answer)

    def _settle(self, error: Exception) -> None:
        waiting, self._waiting, self._reader = self._waiting, None, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _lost(error: Exception | None) -> OSError:
    return error if isinstance(error, OSError) else ConnectionResetError("the server closed the connection")


def _credentials(parts: Any) -> dict[str, str]:
    """Of an address such as `https://name:word@host`."""
    if parts.username is None:
        return {}
    words = f"{parts.username}:{parts.password or ''}"
    return {"Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


def _head_lines(host: str, headers: Mapping[str, str]) -> bytes:
    lines = {"Host": host, "Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "holdfast", **headers}
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")
