"""A rollout of several turns: what the model says goes to an episode, what that answers to the model, until an end.

Whatever the policy does ends in a reward: calls that cannot be carried out are answered, loops meet a limit, a chat
that outgrows the context is cut off, and keeps what it has earned. Whatever the machinery does (an engine that is gone,
an environment that fails, a deadline) is a failure with its type, and the rollout stays owed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.core.errors import UserError
from holdfast.engines.completions import Completion, EngineError, Failure
from holdfast.environments.episodes import Ended, Episode, EpisodeError, Episodes, Start, Step
from holdfast.rollouts import boundary
from holdfast.rollouts.calls import Answered, Calls
from holdfast.rollouts.collect import Failed, Leave
from holdfast.rollouts.collection import Owed, Row, Sample
from holdfast.rollouts.deadlines import Deadlines
from holdfast.rollouts.single_turn import derive_seed
from holdfast.rollouts.tool_use import in_order, sort_calls
from holdfast.rollouts.transcript import Transcript

if TYPE_CHECKING:
    from holdfast.engines.client import Client
    from holdfast.environments.prompt_set import Prompts

UNGRADED = frozenset({Failure.SCORER_ERROR, Failure.SCORER_TIMEOUT})
CLOSING = 10.0
"""Seconds that an episode has for its `close`, whatever ended it."""


@dataclass(frozen=True)
class Bounds:
    """Of one rollout. `turns`: messages of the model; `tool_calls` in all; `tokens` generated in all; `bad_turns`: in a
    row, in which no call could be carried out. Seconds: `step` for a call of the environment, `turn`, `rollout`.

    A deadline that is not met is a failure of the machinery; any other bound ends the rollout with what it has earned.
    """

    turns: int = 32
    tool_calls: int | None = None
    tokens: int | None = None
    bad_turns: int = 3
    step: float = 60.0
    turn: float = 3600.0
    rollout: float = 14400.0

    @classmethod
    def of(cls, episodes: Episodes, **said: Any) -> Bounds:
        """The environment's own, and what somebody said."""
        own = {"turns": episodes.turns, "tool_calls": episodes.tool_calls}
        return cls(**own | {name: value for name, value in said.items() if value is not None})


class Speaker(Protocol):
    """Who answers the chat: an engine, or the record of one. `why` is what its end is, where it says no more; `seed`
    what its answers are drawn from, as far as that can be known.
    """

    why: Ended

    @property
    def seed(self) -> int | None: ...

    def say(self, said: Transcript, tools: Sequence[Mapping[str, Any]]) -> Awaitable[Answered]:
        """
        Raises:
            EngineError: no answer.
        """


class MultiTurn:
    """The `work` of a collection of episodes. `seed` is for the engine; the episode's follows from prompt and repeat
    alone, so that two models meet the same problem. `stored` reads back a transcript that could not be graded.
    """

    def __init__(
        self,
        client: Client,
        calls: Calls,
        episodes: Episodes,
        prompts: Prompts,
        seed: Callable[[Sample], int | None],
        stored: Callable[[Sample], Row],
        bounds: Bounds | None = None,
    ) -> None:
        self._client = client
        self._calls = calls
        self._episodes = episodes
        self._prompts = prompts
        self._seed = seed
        self._stored = stored
        self._bounds = bounds or Bounds.of(episodes)
        self._clocks = Clocks(self._bounds)

    def __call__(self, owed: Owed, leave: Leave) -> Awaitable[Row]:
        """The row of one rollout.

        Raises:
            EngineError: the engine failed.
            Failed: the environment failed, or a deadline was not met; where a grade is missing, its row has the rest.
        """
        sample = owed.sample
        speaker: Speaker
        if owed.has_response:
            speaker = _Record(self._stored(sample))
        else:
            speaker = _Engine(self._client, self._calls, self._seed(sample))
        said = Transcript(self._prompts.row(sample.id))
        return play(self._episodes, said, speaker, sample, self._bounds, leave, self._clocks)


async def play(
    episodes: Episodes,
    said: Transcript,
    speaker: Speaker,
    sample: Sample,
    bounds: Bounds,
    leave: Leave = lambda: None,
    clocks: Clocks | None = None,
) -> Row:
    """Play one episode to its end; its row. `clocks` are those that it shares with others.

    Raises:
        EngineError: the engine failed.
        Failed: the environment failed, or a deadline was not met.
    """
    episode = episodes.new()
    clock = _Clock(clocks or Clocks(bounds))
    clock.begin()
    try:
        async with clock.timer:
            await _Play(episode, said, speaker, bounds, clock).run(derive_seed("environment", sample))
            leave()
            if said.ended and not said.last.terminated:
                added: Step | None = await boundary.call(episode, "finish", bounds.step, said.ended)
                if added is not None:
                    said.add(added)
        return {"id": sample.id, "repeat": sample.repeat, "seed": speaker.seed, **said.row()}
    except TimeoutError:
        raise Failed(Failure.TIMEOUT, clock.words, said.partial(with_response=False)) from None
    except EpisodeError as error:
        kind = Failure(error.kind)
        raise Failed(kind, str(error), said.partial(with_response=kind in UNGRADED)) from error
    finally:
        clock.end()
        await _close(episode)


async def replay(episodes: Episodes, row: Row, bounds: Bounds | None = None) -> Row:
    """Judge a recorded rollout again, by an environment that may have changed: its messages, turn by turn, and no
    engine. The new row keeps what the old one says of the engine.

    Raises:
        Failed: the environment failed.
    """
    said = Transcript(row["prompt"])
    sample = Sample(row["id"], row["repeat"])
    made = await play(episodes, said, _Record(row), sample, bounds or Bounds.of(episodes, turns=len(row["turns"]) + 1))
    return {**row, **{name: value for name, value in made.items() if name not in ("tries", "usage")}}


class _Play:
    """One episode that is going on."""

    __slots__ = ("_bad_turns", "_bounds", "_clock", "_episode", "_said", "_speaker")

    def __init__(self, episode: Episode, said: Transcript, speaker: Speaker, bounds: Bounds, clock: _Clock) -> None:
        self._episode = episode
        self._said = said
        self._speaker = speaker
        self._bounds = bounds
        self._clock = clock
        self._bad_turns = 0

    async def run(self, seed: int) -> None:
        found = await boundary.call(self._episode, "start", self._bounds.step, seed, self._said.prompt)
        start = found if isinstance(found, Start) else Start(found)
        self._said.begin(start)
        tools = list(start.tools)
        names = [tool["function"]["name"] for tool in tools]
        while not self._said.ended:
            self._clock.begin_turn(len(self._said.turns) + 1)
            if await self._turn(tools, names):
                break
        self._clock.end_turns()

    async def _turn(self, tools: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
        """One message of the model and what came of it; whether the episode has ended by itself."""
        said, bounds = self._said, self._bounds
        began = time.monotonic()
        try:
            completion, tries = await self._speaker.say(said, tools)
        except EngineError as error:
            if error.kind != Failure.CONTEXT_LENGTH or not said.turns:
                raise
            said.ended = self._speaker.why
            return False
        room = None if bounds.tool_calls is None else bounds.tool_calls - said.tool_calls
        calls = sort_calls(completion, names, room, len(said.turns))
        said.say(completion, calls.message, tries)
        said.tool_calls += calls.asked
        step = Step(actions=0)
        if calls.fault is None:
            step = await boundary.call(self._episode, "step", bounds.step, calls.good)
            if not isinstance(step, Step):
                raise EpisodeError("env_error", f"`step` returned {step!r:.100}, expected a Step")
        said.hear(replace(step, messages=in_order(calls, list(step.messages))), time.monotonic() - began)
        self._bad_turns = self._bad_turns + 1 if calls.fault else 0
        if step.terminated or step.truncated:
            return True
        said.ended = self._limit(completion, calls.fault) or ""
        return False

    def _limit(self, completion: Completion, fault: Ended | None) -> Ended | None:
        """Which bound is met, if any."""
        said, bounds = self._said, self._bounds
        if fault == "tool_limit" or (bounds.tool_calls is not None and said.tool_calls >= bounds.tool_calls):
            return "tool_limit"
        if completion.finish == "length":
            return "output_length"
        if fault and self._bad_turns >= bounds.bad_turns:
            return fault
        if bounds.tokens is not None and said.usage["completion_tokens"] >= bounds.tokens:
            return "token_limit"
        return "turn_limit" if len(said.turns) >= bounds.turns else None


class _Engine:
    """Answers by an engine. Each turn draws from a seed of its own; an engine that has one seed for all that it serves
    is sent it once.
    """

    __slots__ = ("_calls", "_client", "_seed", "why")

    def __init__(self, client: Client, calls: Calls, seed: int | None) -> None:
        self.why: Ended = "context_length"
        self._client = client
        self._calls = calls
        self._seed = seed

    @property
    def seed(self) -> int | None:
        return self._seed if self._client.keeps_seeds else None

    def say(self, said: Transcript, tools: Sequence[Mapping[str, Any]]) -> Awaitable[Answered]:
        turn = len(said.turns)
        seed = None if self._seed is None else (self._seed + turn) % 2**31
        if turn and not self._client.keeps_seeds:
            seed = None
        return self._calls.make(self._client.chat, said.sent(), seed, tools)


class _Record:
    """Answers as a row says that an engine did."""

    def __init__(self, row: Row) -> None:
        self.why: Ended = row.get("info", {}).get("ended", "context_length")
        self.seed: int | None = row.get("seed")
        self._row = row
        self._messages = [each for each in row["messages"] if each["role"] == "assistant"][-len(row["turns"]) :]

    async def say(self, said: Transcript, tools: Sequence[Mapping[str, Any]]) -> Answered:
        number = len(said.turns)
        if number >= len(self._messages):
            raise EngineError(Failure.CONTEXT_LENGTH, "the record ends here")
        message, turn = self._messages[number], self._row["turns"][number]
        return Answered(Completion(message.get("content") or "", turn["finish"], turn["usage"], message), 1)


class Clocks:
    """The deadlines of all rollouts of one attempt, and of their turns."""

    def __init__(self, bounds: Bounds) -> None:
        self.rollouts = Deadlines(bounds.rollout)
        self.turns = Deadlines(bounds.turn)


class _Clock:
    """Those of one rollout, by one timer. `words`: what took too long."""

    __slots__ = ("_clocks", "_turn", "timer")

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._turn = 0
        self.timer = asyncio.timeout(None)

    def begin(self) -> None:
        self._clocks.rollouts.begin(self.timer)

    def begin_turn(self, number: int) -> None:
        self._turn = number
        self._clocks.turns.begin(self.timer)

    def end_turns(self) -> None:
        self._turn = 0
        self._clocks.turns.end(self.timer)

    def end(self) -> None:
        self._clocks.turns.end(self.timer)
        self._clocks.rollouts.end(self.timer)

    @property
    def words(self) -> str:
        clocks = self._clocks
        if self._turn and clocks.rollouts.covers(self.timer):
            return f"turn {self._turn} took more than {clocks.turns.seconds:g} s"
        return f"the rollout took more than {clocks.rollouts.seconds:g} s"


async def _close(episode: Episode) -> None:
    """Whatever happens, also when we are cancelled; that it cannot be closed takes nothing from a rollout."""
    if type(episode).close is Episode.close:
        return
    closing = asyncio.ensure_future(boundary.call(episode, "close", CLOSING))
    try:
        await asyncio.shield(closing)
    except (EpisodeError, UserError):
        return
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise
