"""NeMo Gym's resource servers over HTTP, without its agents: the rollout's loop is ours, the tools and rewards theirs.

Two interfaces, https://github.com/NVIDIA-NeMo/Gym:

- `tools`: `/seed_session` with the row; each tool call is `POST /<tool>` with its arguments, and what that answers,
  also with a status from 400 to 499, is told to the model; at the end `/verify` with the row and the whole response. A
  message without calls ends it. An answer with `"done": true` does, too, where `done_flag` says so.
- `gymnasium`: `/reset` with the row; each message goes to `/step`, which answers with observation, reward, terminated,
  truncated; `/close` where the server said that it has it.

A session is a cookie. A request that begins a session is sent again while the server is gone, for `patience` seconds at
most; one within a session is sent once, since nobody knows what a lost one has done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from holdfast.core.errors import ConfigError
from holdfast.core.service import Service
from holdfast.environments import Settings
from holdfast.environments.episodes import Ended, Episode, EpisodeError, Episodes, Message, Start, Step, user
from holdfast.environments.prompt_set import Row
from holdfast.environments.responses import chat_messages, chat_tools, output_items, response_object
from holdfast.environments.tool_calls import ToolCall, answer, read_calls

if TYPE_CHECKING:
    import aiohttp

LARGEST = 16 * 2**20
"""Bytes of an answer that are read at most."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
HEADERS = {"Content-Type": "application/json"}


class NemoGymSettings(Settings):
    """Which server, and how it is spoken to."""

    server: str
    """Its name: what it is, for the identity of the rows; the rules are its own."""
    server_version: str = ""
    """Raise it when the server's rewards change their meaning: nobody else can know."""
    interface: Literal["tools", "gymnasium"] = "tools"
    done_flag: bool = False
    """Whether a tool's `"done": true` ends the rollout."""
    url: str | None = None
    """Of a server that is already there; no part of the identity."""
    command: tuple[str, ...] = ()
    """What starts one in the same job, with `{port}` in it; no part of the identity."""
    ready: str = "/openapi.json"
    """A path that answers 200 once it can be used."""
    start_timeout: float = Field(600.0, gt=0)
    deadline: float = Field(60.0, gt=0)
    """Seconds for one request."""
    patience: float = Field(60.0, gt=0)
    """Seconds to wait for a server that is gone, when a rollout begins."""
    has_tools: bool | None = None
    """Whether rows have tools; by default those of the interface `tools` do."""


PLACED = ("url", "command", "ready", "start_timeout", "deadline", "patience")


class NemoGym(Episodes):
    name = "nemo_gym"
    turns = 20
    Settings: ClassVar[type[Settings]] = NemoGymSettings

    def __init__(self, settings: NemoGymSettings) -> None:
        """
        Raises:
            ConfigError: neither an address nor a command, or both.
        """
        if (settings.url is None) == (not settings.command):
            raise ConfigError(
                f"environment nemo_gym: url {settings.url!r} and command {list(settings.command)}, expected one",
                "give `url` for a server that is there, or `command` for one that is to be started",
            )
        super().__init__(settings)
        self._session: aiohttp.ClientSession | None = None
        self._base = ""

    def choice(self) -> dict[str, Any]:
        return {name: value for name, value in super().choice().items() if name not in PLACED}

    @property
    def has_tools(self) -> bool:
        said = self.settings.has_tools
        return bool(self.settings.interface == "tools" if said is None else said)

    def service(self) -> Service | None:
        chosen = self.settings
        if not chosen.command:
            return None
        return Service("environment", chosen.command, ready=chosen.ready, timeout=chosen.start_timeout)

    @asynccontextmanager
    async def opened(self, url: str | None = None) -> AsyncIterator[None]:
        import aiohttp

        self._base = str(url or self.settings.url).rstrip("/")
        limits = aiohttp.ClientTimeout(total=self.settings.deadline)
        connector = aiohttp.TCPConnector(limit=0)
        # Each rollout has a session of its own with the server: the cookies are ours to keep.
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=limits, cookie_jar=jar) as session:
            self._session = session
            yield

    def new(self) -> Episode:
        assert self._session is not None
        made = ByTools if self.settings.interface == "tools" else BySteps
        return made(self.settings, _Server(self._session, self._base, self.settings))


class _Server:
    """One session with a server."""

    def __init__(self, session: aiohttp.ClientSession, base: str, settings: NemoGymSettings) -> None:
        self._session = session
        self._base = base
        self._settings = settings
        self._cookies: dict[str, str] = {}

    async def begin(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post what begins a session, again while the server is gone or fails.

        Raises:
            EpisodeError: it stays so.
        """
        loop = asyncio.get_running_loop()
        ends, wait = loop.time() + self._settings.patience, FIRST_WAIT
        while True:
            try:
                return await self.ask(path, body)
            except _Gone:
                if loop.time() + wait > ends:
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post, once; what the server answers, from JSON.

        Raises:
            EpisodeError: it does not, or with anything but 200 and JSON.
        """
        status, text = await self.post(path, body)
        if status != 200:
            raise EpisodeError("env_error", f"{self._where(path)} answered {status}: {_start(text)}")
        try:
            return json.loads(text)
        except ValueError:
            raise EpisodeError("env_error", f"{self._where(path)} answered no JSON: {_start(text)}") from None

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
        """Post, once; status and text of an answer below 500.

        Raises:
            EpisodeError: there is none.
        """
        import aiohttp

        data = json.dumps(body).encode()
        try:
            async with self._session.post(
                self._base + path, data=data, headers=HEADERS, cookies=self._cookies
            ) as response:
                content = await response.content.read(LARGEST)
                self._cookies |= {name: cookie.value for name, cookie in response.cookies.items()}
        except TimeoutError:
            words = f"{self._where(path)} did not answer within {self._settings.deadline:g} s"
            raise EpisodeError("env_timeout", words) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Gone("env_error", f"{self._where(path)}: {str(error) or type(error).__name__}"[:300]) from None
        text = content.decode("utf-8", "replace")
        if response.status >= 500:
            raise _Gone("env_error", f"{self._where(path)} answered {response.status}: {_start(text)}")
        return response.status, text

    def _where(self, path: str) -> str:
        return f"{self._settings.server} at {self._base}{path}"


class _Gone(EpisodeError):
    """Nobody there, or out of order: when a session begins, it is worth another try."""


class _Chat(Episode):
    """What both interfaces share: the row, and the chat since it began, as the server wants it."""

    def __init__(self, settings: NemoGymSettings, server: _Server) -> None:
        super().__init__(settings)
        self._server = server
        self._messages: list[Message] = []
        self._row: Row = {}

    def _begin(self, row: Row, more: str | None) -> Start:
        self._row = row
        asked = row.get("responses_create_params") or {}
        messages = chat_messages(asked.get("input", []))
        if more:
            messages.append({"role": "user", "content": more})
        return Start(messages, chat_tools(asked.get("tools")))

    def _body(self, messages: list[Message]) -> dict[str, Any]:
        return {**self._row, "response": response_object(output_items(messages))}


class ByTools(_Chat):
    """`/seed_session`, the tools, `/verify`."""

    has_tools: ClassVar[bool] = True

    async def start(self, seed: int, row: Row) -> Start:
        await self._server.begin("/seed_session", row)
        return self._begin(row, None)

    async def step(self, message: Message) -> Step:
        self._messages.append(message)
        calls = read_calls(message)
        if not calls:
            return await self._verify()
        answers = [await self._call(call) for call in calls]
        told = [answer(call.id, call.name, text) for call, text in zip(calls, answers, strict=True)]
        self._messages.extend(told)
        if self.settings.done_flag and any(map(_is_done, answers)):
            judged = await self._verify()
            return Step(told, judged.reward, True, False, judged.info, len(calls))
        return Step(told, actions=len(calls))

    async def finish(self, why: Ended) -> Step:
        return await self._verify()

    async def _call(self, call: ToolCall) -> str:
        # The name is the model's; that the loop let it pass says that it is one of the row's tools.
        return (await self._server.post(f"/{call.name}", call.arguments))[1]

    async def _verify(self) -> Step:
        found = await self._server.ask("/verify", self._body(self._messages))
        known = {"responses_create_params", "response", *self._row}
        info = {name: value for name, value in found.items() if name not in known}
        return Step([], _reward(found), terminated=True, info=info, actions=0)


class BySteps(_Chat):
    """`/reset`, `/step`, and `/close` where there is one."""

    async def start(self, seed: int, row: Row) -> Start:
        found = await self._server.begin("/reset", {"seed": seed, **row})
        self._has_close = (found.get("info") or {}).get("supports_explicit_close") is True
        return self._begin(row, found.get("observation"))

    async def step(self, message: Message) -> Step:
        found = await self._server.ask("/step", self._body([message]))
        info = dict(found.get("info") or {})
        outputs = info.get("tool_outputs") or ()
        told: list[Message] = [answer(each["call_id"], "", each["output"]) for each in outputs]
        if found.get("observation"):
            told.append(user(found["observation"]))
        actions = info.get("num_actions_applied", 1)
        ended = bool(found.get("terminated")), bool(found.get("truncated"))
        return Step(told, _reward(found), *ended, info, actions if isinstance(actions, int) else 1)

    async def close(self) -> None:
        if getattr(self, "_has_close", False):
            await self._server.ask("/close", {})


def _reward(found: Mapping[str, Any]) -> float:
    reward = found.get("reward") if isinstance(found, dict) else None
    if not isinstance(reward, int | float):
        raise EpisodeError("env_error", f"the reward is {reward!r}, expected a number")
    return float(reward)


def _is_done(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("done") is True


def _start(text: str) -> str:
    return " ".join(text.split())[:200]
