"""What every page of ours stands on: its files, errors as JSON, a stream of events, and a server that ends at Ctrl-C.

What is shown comes as routes from elsewhere; a second page is a second list of routes. Files are read from the package
once, by a list of their names, so that no path of a request ever meets the disk.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import UserError
from holdfast.web.guard import Guard, Rules, is_loopback, names_of, new_token

if TYPE_CHECKING:
    from types import FrameType

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PORT = 8765
PORTS_TRIED = 20
BEAT = 15.0
"""Seconds after which a silent stream says that it is alive."""
MOST_STREAMS = 32
Handler = Callable[["Request"], Awaitable[Any]]


class Refused(Exception):
    """A question that cannot be answered: `status`, and in words why."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


@dataclass(frozen=True)
class Address:
    """Where to listen. Off the loopback address, or when asked for, there is a token."""

    host: str = "127.0.0.1"
    port: int | None = None
    has_token: bool = False

    def rules(self) -> Rules:
        """Who may ask."""
        needs_token = self.has_token or not is_loopback(self.host)
        return Rules(names_of(self.host), new_token() if needs_token else "")


def answer(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A route's handler from one that returns what JSON can say, or a response; what it raises becomes an answer."""
    from starlette.responses import Response

    async def respond(request: Request) -> Response:
        try:
            found = await handler(request)
        except Refused as error:
            return as_json({"error": str(error), "hint": error.hint}, error.status)
        except UserError as error:
            return as_json({"error": str(error), "hint": error.hint}, 409)
        except Exception:  # noqa: BLE001  # the boundary: one question that fails must not end the others
            print(traceback.format_exc(), file=sys.stderr)  # noqa: T201
            return as_json({"error": "this is a bug: the terminal says more", "hint": ""}, 500)
        return found if isinstance(found, Response) else as_json(found)

    return respond


def as_json(content: Any, status: int = 200) -> Response:
    """Answered as ASCII: half of a character, which a model may well have written, cannot be said otherwise."""
    from starlette.responses import Response

    body = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


def static_files(package: str = "holdfast.web", folder: str = "static") -> dict[str, bytes]:
    """The files of a page, by path."""
    found: dict[str, bytes] = {}
    waiting = [(resources.files(package) / folder, "/")]
    while waiting:
        directory, prefix = waiting.pop()
        for entry in directory.iterdir():
            if entry.is_dir():
                waiting.append((entry, f"{prefix}{entry.name}/"))
            elif Path(entry.name).suffix in TYPES:
                found[f"{prefix}{entry.name}"] = entry.read_bytes()
    return found


def build(routes: Sequence[BaseRoute], rules: Rules, files: Mapping[str, bytes]) -> ASGIApp:
    """The application: `routes`, and for any other path the file of that name; `/` is `index.html`."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def serve_file(request: Request) -> Response:
        path = "/index.html" if request.url.path == "/" else request.url.path
        if path not in files:
            raise Refused(404, f"there is nothing at {request.url.path[:200]}")
        return Response(files[path], 200, {"cache-control": "no-cache"}, TYPES[Path(path).suffix])

    return Guard(Starlette(routes=[*routes, Route("/{path:path}", answer(serve_file))]), rules)


class Streams:
    """Server-sent events: whatever is `send` reaches every browser that listens. `send` may be called in any thread."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ending = False

    def send(self, content: Mapping[str, Any]) -> None:
        """Tell everybody; who is slow gets the newest."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, json.dumps(content, allow_nan=False))

    def end(self) -> None:
        """Let all of them go, so that the server can end."""
        self._is_ending = True
        self._put("")

    def open(self) -> Response:
        """The answer to a browser that listens."""
        from starlette.responses import StreamingResponse

        if len(self._queues) >= MOST_STREAMS:
            raise Refused(503, f"{MOST_STREAMS} pages listen already", "close some of them")
        self._loop = asyncio.get_running_loop()
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._listen(), 200, headers, "text/event-stream")

    async def _listen(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(1)
        self._queues.add(queue)
        try:
            yield "retry: 2000\n\n"
            while not self._is_ending:
                try:
                    async with asyncio.timeout(BEAT):
                        said = await queue.get()
                except TimeoutError:
                    said = ""
                yield f"data: {said}\n\n" if said else ": alive\n\n"
        finally:
            self._queues.discard(queue)

    def _put(self, said: str) -> None:
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(said)


def check_installed() -> None:
    """Refuse where the libraries of the web are not there.

    Raises:
        UserError: one of them is missing.
    """
    for name in ("starlette", "uvicorn", "numpy", "msgspec"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is not installed, and pages need it", "pip install 'holdfast[web]'")


def open_browser(where: str) -> None:
    """Show a page, where there is somebody to show it to."""
    has_screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_screen:
        threading.Thread(target=webbrowser.open, args=(where,), daemon=True).start()


def listen(address: Address) -> socket.socket:
    """A socket there; without a port the first free one from 8765 on.

    Raises:
        UserError: the port is taken, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    ports = [address.port] if address.port is not None else [*range(PORT, PORT + PORTS_TRIED), 0]
    trouble: OSError | None = None
    for port in ports:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((address.host, port))
            server.listen(128)
        except (OSError, OverflowError) as error:
            server.close()
            trouble = error if isinstance(error, OSError) else OSError(0, str(error))
            continue
        return server
    words = trouble.strerror if trouble else ""
    raise UserError(f"cannot listen at {address.host} port {ports[0]}: {words}", "choose another --port or --host")


def url(server: socket.socket, address: Address, rules: Rules) -> str:
    """What a person opens."""
    host = address.host if address.host not in ("0.0.0.0", "::") else socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{server.getsockname()[1]}/" + (f"?token={rules.token}" if rules.token else "")


def serve(app: ASGIApp, server: socket.socket, streams: Streams) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Asked to end is no error: uvicorn's own raises the signal again, and what was read would not be kept.
            self.force_exit, self.should_exit = self.should_exit, True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            streams.end()
            await super().shutdown(sockets)

    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        ws="none",
        server_header=False,
    )
    asyncio.run(Server(settings).serve([server]))
