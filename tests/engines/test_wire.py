"""Every answer reaches the one who asked, over lines that are used again, and nobody waits for a line that is gone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.engines.wire import NotHttp, TooLarge, Wire

Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Site:
    """A server that counts its connections; `reply` is told the body of each request."""

    def __init__(self, reply: Reply) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self._reply = reply
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """The port; ends when all connections have."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            while self._open:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._open.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
            await self._reply(await reader.readexactly(length), writer)
            await writer.drain()


@asynccontextmanager
async def site(reply: Reply, path: str = "", largest: int = 10**6) -> AsyncIterator[tuple[Site, Wire]]:
    found = Site(reply)
    async with (
        found.serving() as port,
        Wire(f"http://127.0.0.1:{port}{path}", {"Authorization": "Bearer k"}, largest) as wire,
    ):
        yield found, wire


async def echo(body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def hang(body: bytes, writer: asyncio.StreamWriter) -> None:
    return


def raw(text: bytes, *, closes: bool = False) -> Reply:
    async def reply(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        if closes:
            writer.close()

    return reply


def test_each_gets_the_answer_to_his_own_question_over_lines_that_are_used_again() -> None:
    async def main() -> None:
        async with site(echo, "/base path") as (server, wire):
            for _ in range(3):
                bodies = [f"{number}".encode() * 1000 for number in range(300)]
                answers = await asyncio.gather(*(wire.post("/v1/x", bytes, each) for each in bodies))
                assert [each.content for each in answers] == bodies
            assert server.connections <= 300
            assert server.heads[0].startswith(b"POST /base%20path/v1/x HTTP/1.1\r\n")
            assert b"Authorization: Bearer k\r\n" in server.heads[0]
            assert (await wire.get("/health", 5)).content == b""

    asyncio.run(main())


def test_a_body_is_made_when_there_is_a_line_to_send_it_on() -> None:
    async def main() -> None:
        made: list[int] = []
        async with site(echo) as (_, wire):
            await asyncio.gather(*(wire.post("/", _note, made, number) for number in range(600)))
        assert sorted(made) == list(range(600))

    asyncio.run(main())


def test_a_body_that_cannot_be_made_costs_its_line_and_nobody_elses() -> None:
    async def main() -> None:
        async with site(echo) as (server, wire):
            for number in range(1, 4):
                with pytest.raises(UnicodeEncodeError):
                    await wire.post("/", "\udc00".encode)
                assert (await wire.post("/", lambda: b"x")).content == b"x"
                assert server.connections <= number + 1

    asyncio.run(main())


def _note(made: list[int], number: int) -> bytes:
    made.append(number)
    return b"x"


def test_a_question_that_is_given_up_costs_no_other_its_answer() -> None:
    async def main() -> None:
        async def slow_at_first(body: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05 if body == b"late" else 0)
            await echo(body, writer)

        async with site(slow_at_first) as (server, wire):
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await wire.post("/", lambda: b"late")
                assert (await wire.post("/", lambda: b"next")).content == b"next"
            assert server.connections > 20, "a line with an answer under way is not used again"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (raw(b"", closes=True), ConnectionError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", closes=True), ConnectionError),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), NotHttp),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"), TooLarge),
        (hang, TimeoutError),
    ],
)
def test_what_goes_wrong_is_told_and_the_line_is_gone(reply: Reply, error: type[Exception]) -> None:
    async def main() -> None:
        async with site(reply) as (server, wire):
            for number in range(1, 3):
                with pytest.raises(error):
                    await wire.get("/", 0.2 if reply is hang else 60)
                assert server.connections == number

    asyncio.run(main())


def test_a_body_to_the_end_of_the_line_is_read_and_the_next_question_has_a_new_one() -> None:
    async def main() -> None:
        async with site(raw(b"HTTP/1.0 200 OK\r\n\r\nall of it", closes=True)) as (server, wire):
            for number in range(1, 3):
                assert (await wire.get("/", 5)).content == b"all of it"
                assert server.connections == number

    asyncio.run(main())


def test_a_line_that_the_server_closed_while_it_was_idle_is_not_asked_over() -> None:
    async def main() -> None:
        async def once(body: bytes, writer: asyncio.StreamWriter) -> None:
            await echo(body, writer)
            writer.close()  # without a word that it would

        async with site(once) as (server, wire):
            for number in range(1, 5):
                assert (await wire.post("/", lambda: b"x")).content == b"x"
                while wire.idle:
                    await asyncio.sleep(0.001)
                assert server.connections == number

    asyncio.run(main())


def test_who_leaves_ends_what_still_waits() -> None:
    async def main() -> None:
        async with site(hang) as (server, wire):
            waiting = asyncio.ensure_future(wire.post("/", lambda: b"x"))
            while not server.heads:
                await asyncio.sleep(0.001)
            await wire.__aexit__(None, None, None)
            with pytest.raises(ConnectionError):
                await waiting

    asyncio.run(main())


def test_names_have_addresses_and_nothing_at_one_of_them_is_no_harm() -> None:
    async def main() -> None:
        async with Site(echo).serving() as port, Wire(f"http://localhost:{port}", {}) as wire:
            assert (await wire.post("/", lambda: b"x")).content == b"x"
        async with Wire(f"http://localhost:{port}", {}) as wire:
            with pytest.raises(OSError, match="onnect"):
                await wire.get("/", 5)

    asyncio.run(main())


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    named = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *named], check=True, capture_output=True)

    async def main() -> None:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(certificate, key)
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with Site(echo).serving(ours) as port:
            async with Wire(f"https://localhost:{port}", {}) as wire:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await wire.get("/", 5)
            async with Wire(f"https://localhost:{port}", {}, tls=trusted) as wire:
                body = b"x" * 300_000
                assert (await wire.post("/", lambda: body)).content == body

    asyncio.run(main())


@pytest.mark.parametrize("wrong", ["http://host:99999", "http://host:port"])
def test_an_address_that_is_none_is_said_to_be(wrong: str) -> None:
    with pytest.raises(ValueError, match="ort"):
        Wire(wrong, {})
