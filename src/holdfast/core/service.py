"""A server that is alive inside a job (an engine, an environment server). It publishes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Service:
    """What the supervisor must know to start a server, wait for it, and end it.

    `command` is a list of tokens; `{port}` in a token is replaced by a free port, `{host}` by the address at which it
    is to listen: loopback, or on several nodes the node's own. `ready` is a URL path that answers
    200 once the server can be used, polled for at most `timeout` seconds. `port`: this one and no other; 0 takes a free
    one.
    """

    name: str
    command: tuple[str, ...]
    ready: str = "/health"
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 300.0
    port: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
