"""Who may ask. A page on the web must not be able to read what lies on this machine through its owner's browser.

The name in `Host` must be one of ours (a foreign name that was made to lead here is refused), `Origin`, where there is
one, must be ourselves, and away from the loopback address a random token is asked for. Ports may differ: they do when a
port is forwarded. What is sent never runs anything from elsewhere, nor what a model wrote.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANYWHERE = frozenset({"0.0.0.0", "::"})
COOKIE = "holdfast-token"
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_of(host: str) -> frozenset[str]:
    """What `Host` may say for a server that listens there."""
    if is_loopback(host):
        return LOOPBACK | {host}
    name = socket.gethostname()
    return LOOPBACK | {host.lower(), name.lower(), name.partition(".")[0].lower(), socket.getfqdn().lower()}


@dataclass(frozen=True)
class Rules:
    """`names` that Host may have; with a `token` any address in numbers, too: only names can be made to lead here."""

    names: frozenset[str]
    token: str = field(default="", repr=False)

    def refuse(self, headers: Mapping[str, str], query: str = "") -> tuple[int, str] | None:
        """The status and the reason of a refusal; None for a request that may pass."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"this server is not {host[:200]!r}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return 403, f"asked by another page: {origin[:200]!r}"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "asked by another page"
        if self.token and not any(hmac.compare_digest(given, self.token) for given in _tokens(headers, query)):
            return 401, "the token is missing or wrong: open the URL that the command printed"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        if not name or parts.netloc != host or "@" in host:
            return False
        return name in self.names or bool(self.token and _is_address(name))


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _tokens(headers: Mapping[str, str], query: str) -> Iterable[str]:
    """Every token that a request has: in the cookie, as a bearer, in the URL."""
    given = [
        value
        for part in headers.get("cookie", "").split(";")
        for name, _, value in [part.strip().partition("=")]
        if name == COOKIE
    ]
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given += [bearer.strip()] if scheme.lower() == "bearer" else []
    given += parse_qs(query).get("token", [])
    return [each for each in given if each.isascii()]


class Guard:
    """An ASGI application that lets through what the rules allow, and adds the headers to every answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        refusal = self._rules.refuse(headers, query)
        if [name for name, _ in scope["headers"]].count(b"host") != 1:
            refusal = (400, "a request has one Host")
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            refusal = (405, "nothing here can be changed")
        if refusal is not None:
            await _answer(send, *refusal)
        elif self._rules.token and "token" in parse_qs(query):
            await self._give_cookie(scope["path"], send)
        else:
            await self._app(scope, receive, _with_headers(send))

    async def _give_cookie(self, path: str, send: Send) -> None:
        """The token goes from the URL, where it would be copied along, into a cookie."""
        cookie = f"{COOKIE}={self._rules.token}; Path=/; HttpOnly; SameSite=Strict"
        location = "/" + path.lstrip("/\\") if path.isascii() and path.isprintable() else "/"
        await _answer(send, 303, "", {"set-cookie": cookie, "location": location})


def _with_headers(send: Send) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return send_more


async def _answer(send: Send, status: int, reason: str, more: Mapping[str, str] | None = None) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = {**HEADERS, "content-type": "application/json", "content-length": str(len(body)), **(more or {})}
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]})
    await send({"type": "http.response.body", "body": body})
