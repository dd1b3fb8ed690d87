"""Episodes that tests play: a tool that adds, and all that can go wrong in somebody's environment."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any, ClassVar

from holdfast.environments import Settings
from holdfast.environments.episodes import Ended, Episode, EpisodeError, Message, Start, Step, user
from holdfast.environments.prompt_set import Row
from holdfast.environments.tool_calls import Outcome, ToolCall, ToolEpisode, function

NUMBER = {"type": "integer"}
ADD = function("add", "Add two numbers.", {"a": NUMBER, "b": NUMBER}, ["a", "b"])


class Adding(ToolEpisode):
    """Each sum is worth 1; the answer in words is worth 10, and the end. Counts what is begun and closed."""

    name = "adding"
    lives: ClassVar[Counter[str]] = Counter()

    def start(self, seed: int, row: Row) -> Start:
        type(self).lives["started"] += 1
        type(self).lives["open"] += 1
        type(self).lives["most open"] = max(self.lives["most open"], self.lives["open"])
        return Start([user(f"Add {row['number']} and {row['number']}.")], [ADD])

    def call(self, call: ToolCall) -> Outcome:
        return Outcome({"sum": call.arguments["a"] + call.arguments["b"]}, reward=1.0)

    def said(self, message: Message) -> Step:
        return Step(reward=10.0, terminated=True, actions=0)

    async def close(self) -> None:
        await asyncio.sleep(0)
        type(self).lives["open"] -= 1


class TroubleSettings(Settings):
    """What goes wrong, and in which method."""

    where: str = "step"
    what: str = "raise"


class Trouble(Episode):
    """Three turns, each worth 1; but for the trouble."""

    Settings: ClassVar[type[Settings]] = TroubleSettings
    is_mended: ClassVar[bool] = False
    closed: ClassVar[int] = 0

    async def start(self, seed: int, row: Row) -> Any:
        self.turns = 0
        await self._meet("start")
        return [user("Say something.")]

    async def step(self, message: Message) -> Any:
        self.turns += 1
        if self.turns == 2:
            odd = await self._meet("step")
            if odd is not None:
                return odd
        return Step([user("Go on.")], 1.0, terminated=self.turns == 3)

    async def finish(self, why: Ended) -> Step | None:
        await self._meet("finish")
        return Step(reward=100.0, info={"why": why})

    async def close(self) -> None:
        type(self).closed += 1
        await self._meet("close")

    async def _meet(self, where: str) -> Any:
        if where != self.settings.where or self.is_mended:
            return None
        match self.settings.what:
            case "raise":
                return 1 / 0
            case "own":
                raise OddError("of nobody's making")
            case "hang":
                await asyncio.sleep(3600)
            case "nan":
                return Step([], float("nan"), terminated=True)
            case "rubbish":
                return "a text"
            case "ungraded":
                raise EpisodeError("scorer_error", "the judge is ill")
        return None


class OddError(Exception):
    """Derived from nothing that anybody would expect."""


class Blocking(Episode):
    """Blocks its thread until it is let go."""

    is_blocking = True
    let_go: ClassVar[threading.Event] = threading.Event()
    threads: ClassVar[set[int]] = set()

    def start(self, seed: int, row: Row) -> Start:
        return Start([user("Say something.")])

    def step(self, message: Message) -> Step:
        self.threads.add(threading.get_ident())
        self.let_go.wait()
        return Step(reward=1.0, terminated=True)


class Seeds(Episode):
    """Tells its seed."""

    def start(self, seed: int, row: Row) -> Start:
        return Start([user("Say something.")], info={"seed": seed})

    def step(self, message: Message) -> Step:
        return Step(terminated=True)
