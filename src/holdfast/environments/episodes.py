"""Episodes: problems of several turns, with or without tools. What a rollout runs.

An `Episode` is one problem, used once: `start` gives the first messages and the tools, `step` takes what the model said
and gives what it is told, and a reward. `Episodes` is where they come from: settings, identity, and what they share (a
connection, a pool of verifiers). To write your own, write an `Episode` alone:

    class Guess(Episode):
        name = "guess"

        def start(self, seed, row):
            self.number = row["number"]
            return Start([user("Guess a number from 1 to 100.")])

        def step(self, message):
            if str(self.number) in message["content"]:
                return Step(reward=1.0, terminated=True)
            return Step([user("No.")])

and name it `package.module:Guess`. A single-turn `Environment` is read as episodes of one turn. Methods may be `async`;
one that blocks for long sets `is_blocking`, and is run in a thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from holdfast.core.errors import HoldfastError
from holdfast.core.plugins import load_class
from holdfast.core.schema import validate
from holdfast.core.service import Service
from holdfast.environments import SHIPPED as SINGLE_TURN
from holdfast.environments import Environment, Source
from holdfast.environments.prompt_set import Prompts, Row

__all__ = ["Ended", "Episode", "EpisodeError", "Episodes", "Message", "Start", "Step", "load_episodes", "user"]

SHIPPED = {
    "tetris": "holdfast.environments.tetris.episodes:TetrisEpisodes",
    "nemo_gym": "holdfast.environments.nemo_gym:NemoGym",
    "gymnasium": "holdfast.environments.gymnasium_text:GymnasiumText",
    "math": "holdfast.environments.mathematics:Mathematics",
    "verifiers": "holdfast.environments.verifiers_tasks:VerifiersTasks",
    **SINGLE_TURN,
}
Message = Mapping[str, Any]
"""A message of a chat as OpenAI's API has it: role, content, tool_calls, tool_call_id, name."""
Ended = Literal[
    "turn_limit", "tool_limit", "token_limit", "output_length", "context_length", "bad_tool_json", "unknown_tool"
]
"""Why an episode ends that did not end itself: the policy's doing, never a failure of the machinery."""


class EpisodeError(HoldfastError):
    """The environment failed, not the policy: there is no reward, and the rollout stays owed."""

    def __init__(
        self, kind: Literal["env_error", "env_timeout", "scorer_error", "scorer_timeout"], message: str
    ) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Start:
    """The first messages, the tools (as OpenAI's chat API has them), and what there is to say for the row."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What the model is told, and what its message was worth.

    `terminated`: the problem is over; `truncated`: it is cut off. `actions` is how many actions of the environment the
    message was; `info` goes into the row, where `success` (a bool) is the row's, and `answer` (a text) is what voting
    counts.
    """

    messages: Sequence[Message] = ()
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    actions: int = 1


class Episode(Source, ABC):
    """One problem, from its first message to its end. Each is used once; `close` is called whatever happens.

    `name`, `version` and `Settings` are read where an episode is named without `Episodes`.
    """

    name: ClassVar[str] = ""
    has_tools: ClassVar[bool] = False
    is_blocking: bool = False

    @abstractmethod
    def start(self, seed: int, row: Row) -> Start | Awaitable[Start]:
        """Begin with the problem of a row of the prompt set. All that is drawn, is drawn from `seed`, unless the row
        has one.

        Raises:
            UserError: the row is none of this environment's.
            EpisodeError: the environment fails.
        """

    @abstractmethod
    def step(self, message: Message) -> Step | Awaitable[Step]:
        """Take what the model said. Its `tool_calls` are those that name a tool and have arguments in JSON; each is to
        be answered by a message of the role `tool`.

        Raises:
            EpisodeError: the environment fails.
        """

    def finish(self, why: Ended) -> Step | Awaitable[Step | None] | None:
        """What is to be added where it was ended from outside, by a limit: a reward that is only known at the end."""
        return None

    def close(self) -> Awaitable[None] | None:
        """Give back what is held."""
        return None


class Episodes(Source, ABC):
    """Where episodes come from. `name`, `version`, `Settings`, `resolved`: as for an `Environment`.

    `turns` and `tool_calls` are the limits of one rollout where nobody says others.
    """

    turns: ClassVar[int] = 32
    tool_calls: ClassVar[int | None] = None

    @abstractmethod
    def new(self) -> Episode:
        """An episode that has not begun; only while `opened`."""

    def identity(self) -> dict[str, Any]:
        """All that the meaning of a row and of its reward depends on, but for the row itself."""
        return {"environment": self.name, "version": self.version, "settings": self.choice()}

    def choice(self) -> dict[str, Any]:
        """The settings that make a rollout what it is; without addresses and the like."""
        return dict(self.settings.model_dump(mode="json"))

    def resolved(self) -> dict[str, Any]:
        """The settings with all that planning found out."""
        return dict(self.settings.model_dump(mode="json"))

    @property
    def has_tools(self) -> bool:
        """Whether the engine must take tools: `Engine.check_tools` says at planning whether it does."""
        return False

    def prompts(self) -> Prompts | None:
        """Prompts of its own, for an environment that needs no prompt set."""
        return None

    def service(self) -> Service | None:
        """The server that must be there, to be started in the same job."""
        return None

    @asynccontextmanager
    async def opened(self, url: str | None = None) -> AsyncIterator[None]:
        """Hold what all episodes share. `url` is where `service` answers.

        Raises:
            UserError: a library, or a server, is not there.
        """
        yield


class _Own(Episodes):
    """Episodes of a class that somebody wrote alone."""

    def __init__(self, episode: type[Episode], name: str, settings: Any) -> None:
        super().__init__(settings)
        self._episode = episode
        self._name = episode.name or name

    def identity(self) -> dict[str, Any]:
        return {"environment": self._name, "version": self._episode.version, "settings": self.choice()}

    @property
    def has_tools(self) -> bool:
        return self._episode.has_tools

    def new(self) -> Episode:
        return self._episode(self.settings)


def load_episodes(name: str, settings: Mapping[str, Any] | None = None) -> Episodes:
    """The episodes of this name with these settings: `Episodes`, an `Episode`, or a single-turn `Environment`.

    Raises:
        ConfigError: no such environment, or a setting that it does not have or cannot take.
    """
    from holdfast.environments.one_turn import OneTurn

    found: type[Any] = load_class(name, SHIPPED, Source, "environment")
    chosen = validate(found.Settings, settings or {}, f"environment {name}")
    if issubclass(found, Environment):
        return OneTurn(found(chosen))
    if issubclass(found, Episode):
        return _Own(found, name, chosen)
    made: Episodes = found(chosen)
    return made


def user(content: str) -> Message:
    """A message from outside."""
    return {"role": "user", "content": content}
