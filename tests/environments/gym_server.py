"""A resource server with NeMo Gym's interfaces, written from what is published of them, which can also misbehave.

    python tests/environments/gym_server.py PORT [--dies-after N]

A row has two numbers, `a` and `b`. With tools: `/add` gives their sum, and `/verify` is worth 1 if the response says it
and the tool was used in this session. In the manner of gymnasium: the observation is the question, and each `/step` is
worth 1 and the end if the message says it, otherwise -0.1 and another try. Sessions are signed cookies.

A row's `fault` is `PATH:KIND`, `/add:500` for example, and befalls that request: a status, hang, garbage, noreward.
`GET /counts` says how many sessions were begun and closed, and how often each path was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

SECRET = secrets.token_bytes(16)
COOKIE = "session"
REQUIRED = {"id", "created_at", "model", "object", "output", "parallel_tool_calls", "tool_choice", "tools"}


@dataclass
class Session:
    row: dict[str, Any]
    sums: list[int] = field(default_factory=list)
    is_closed: bool = False


class Gym:
    """All sessions, and how often each path was asked."""

    def __init__(self, dies_after: int | None) -> None:
        self.sessions: dict[str, Session] = {}
        self.asked: Counter[str] = Counter()
        self.dies_after = dies_after

    async def counts(self) -> Any:
        closed = sum(each.is_closed for each in self.sessions.values())
        return {"sessions": len(self.sessions), "closed": closed, **self.asked}

    async def seed_session(self, request: Request) -> Response:
        return await self.begin("/seed_session", await request.json(), {})

    async def reset(self, request: Request) -> Response:
        row = await request.json()
        info = {"supports_explicit_close": True}
        return await self.begin("/reset", row, {"observation": f"What is {row['a']}+{row['b']}?", "info": info})

    async def add(self, request: Request) -> Response:
        session, arguments = self.find(request), await request.json()
        if (fault := await self.fault("/add", session.row)) is not None:
            return fault
        if not all(isinstance(arguments.get(name), int) for name in "ab"):
            return answer({"detail": "a and b must be whole numbers"}, 422)
        session.sums.append(arguments["a"] + arguments["b"])
        return answer({"sum": session.sums[-1], "done": bool(session.row.get("is_done_at_once"))})

    async def verify(self, request: Request) -> Response:
        session, body = self.find(request), await request.json()
        if (fault := await self.fault("/verify", session.row)) is not None:
            return fault
        check(body["response"])
        right = session.row["a"] + session.row["b"]
        reward = float(right in session.sums and str(right) in json.dumps(body["response"]["output"]))
        return answer({**body, "reward": reward, "sums": session.sums})

    async def step(self, request: Request) -> Response:
        session, body = self.find(request), await request.json()
        if (fault := await self.fault("/step", session.row)) is not None:
            return fault
        check(body["response"])
        (message,) = body["response"]["output"]
        right = str(session.row["a"] + session.row["b"]) == message["content"][0]["text"]
        more = None if right else f"No. What is {session.row['a']}+{session.row['b']}?"
        ended = {"terminated": right, "truncated": False}
        return answer({"observation": more, "reward": 1.0 if right else -0.1, **ended, "info": {}})

    async def close(self, request: Request) -> Response:
        self.find(request).is_closed = True
        return answer({})

    async def begin(self, path: str, row: dict[str, Any], content: Any) -> Response:
        if (fault := await self.fault(path, row)) is not None:
            return fault
        name, response = secrets.token_hex(8), answer(content)
        self.sessions[name] = Session(row)
        response.set_cookie(COOKIE, f"{name}.{sign(name)}", httponly=True)
        return response

    def find(self, request: Request) -> Session:
        name, _, signature = request.cookies.get(COOKIE, "").partition(".")
        if not hmac.compare_digest(signature, sign(name)):
            raise HTTPException(400, "no session")
        return self.sessions[name]

    async def fault(self, path: str, row: dict[str, Any]) -> Response | None:
        """Count a request, and misbehave where the row says so."""
        self.asked[path] += 1
        if self.dies_after is not None and sum(self.asked.values()) > self.dies_after:
            os._exit(1)
        where, _, fault = str(row.get("fault", "")).partition(":")
        if where != path:
            return None
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "garbage":
            return Response(b"<html>", media_type="text/html")
        if fault == "noreward":
            return answer({"reward": None})
        return answer({"detail": f"told to answer {fault}"}, int(fault))


def make(gym: Gym) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/counts", gym.counts)
    for path in ("/seed_session", "/add", "/verify", "/reset", "/step", "/close"):
        app.add_api_route(path, getattr(gym, path[1:]), methods=["POST"])
    return app


def sign(name: str) -> str:
    return hmac.new(SECRET, name.encode(), hashlib.sha256).hexdigest()


def answer(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def check(response: dict[str, Any]) -> None:
    """All that the Responses API requires must be there."""
    missing = REQUIRED - response.keys()
    if missing:
        raise HTTPException(422, f"the response has no {missing}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--dies-after", type=int)
    options = parser.parse_args()
    uvicorn.run(make(Gym(options.dies_after)), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
