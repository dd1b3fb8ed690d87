"""What happened in a rollout, turn by turn, and the row that it becomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any

from holdfast.engines.completions import Completion
from holdfast.environments.episodes import EpisodeError, Message, Start, Step
from holdfast.environments.responses import output_items
from holdfast.rollouts.collection import Row

OF_ENGINE = dict.fromkeys(("role", "content", "tool_calls", "tool_call_id", "name"))
"""Fields of a message that an engine is sent back; reasoning, for one, is kept in the row alone."""
DIGITS = 12
"""Of a sum of rewards: 0.1 + 0.2 is 0.3."""


_NOTHING: Mapping[str, Any] = {}
_NO_STEP = Step()
_names: dict[tuple[str, ...], tuple[str, ...]] = {}


@dataclass(slots=True)
class Turn:
    """A message of the model, and what came of it. Thousands of rollouts hold theirs at a time, so the names in their
    usages are held once for all.
    """

    counted: tuple[str, ...]
    counts: tuple[int, ...]
    finish: str
    reward: float = 0.0
    info: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    actions: int = 0
    seconds: float | None = None

    @classmethod
    def of(cls, completion: Completion) -> Turn:
        names = tuple(completion.usage)
        return cls(_names.setdefault(names, names), tuple(completion.usage.values()), intern(completion.finish))

    @property
    def usage(self) -> dict[str, int]:
        return dict(zip(self.counted, self.counts, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """As rows have it; one that the episode has not answered has no seconds."""
        timed = {} if self.seconds is None else {"seconds": self.seconds}
        said = {"reward": self.reward, "info": self.info, "usage": self.usage, "finish": self.finish}
        return {**said, "actions": self.actions, **timed}


@dataclass(slots=True)
class Transcript:
    """`messages` are the whole chat, `begun` of them there before the model said anything."""

    prompt: Mapping[str, Any]
    messages: list[Message] = field(default_factory=list)
    begun: int = 0
    turns: list[Turn] = field(default_factory=list)
    tool_calls: int = 0
    steps: int = 0
    more_tries: int = 0
    finish: str = ""
    last: Step = _NO_STEP
    ended: str = ""
    start_info: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def begin(self, start: Start) -> None:
        """Take what the episode begins with."""
        self.messages = list(start.messages)
        self.begun = len(self.messages)
        self.start_info = start.info

    def sent(self) -> list[Message]:
        """The chat as an engine takes it."""
        return [each if _is_sent_whole(each) else _part(each) for each in self.messages]

    def say(self, completion: Completion, message: Message, tries: int) -> None:
        """Take what the model said."""
        self.messages.append(message)
        self.more_tries += tries - 1
        self.turns.append(Turn.of(completion))
        self.finish = self.turns[-1].finish

    def hear(self, step: Step, seconds: float) -> None:
        """Take what the episode made of it."""
        self.messages.extend(step.messages)
        self.steps += step.actions
        self.last = step
        turn = self.turns[-1]
        turn.reward, turn.actions, turn.seconds = step.reward, step.actions, seconds
        if step.info:
            turn.info = dict(step.info)

    def add(self, step: Step) -> None:
        """Take what was only known at the end, of an episode that did not end itself."""
        self.last = replace(self.last, info={**self.last.info, **step.info})
        self.turns[-1].reward += step.reward
        self.turns[-1].info = {**self.turns[-1].info, **step.info}

    @property
    def usage(self) -> Counter[str]:
        """Of all turns together."""
        found: Counter[str] = Counter()
        for turn in self.turns:
            found.update(turn.usage)
        return found

    @property
    def reward(self) -> float:
        total = sum(turn.reward for turn in self.turns)
        return float(f"{total:.{DIGITS}g}")

    def row(self) -> Row:
        """All of it, with its reward.

        Raises:
            EpisodeError: a reward is no finite number.
        """
        if not math.isfinite(self.reward):
            raise EpisodeError("env_error", f"a reward of {self.reward}")
        info = {**self.start_info, **self.last.info, **({"ended": self.ended} if self.ended else {})}
        success = info.get("success")
        answer = info.get("answer")
        return {
            "prompt": self.prompt,
            "response": self._response(),
            "reward": self.reward,
            "success": success if isinstance(success, bool) else self.reward >= 1.0,
            "num_steps": self.steps,
            **({"answer": answer} if isinstance(answer, str) else {}),
            **self.spent(),
            "terminated": self.last.terminated,
            "truncated": self.last.truncated or (bool(self.ended) and not self.last.terminated),
            "info": info,
        }

    def partial(self, *, with_response: bool) -> Row:
        """What there is of one that failed; with a response, where only the grade is missing."""
        response = {"response": self._response()} if with_response else {}
        return {"prompt": self.prompt, **response, **self.spent()}

    def spent(self) -> Row:
        """What was said, and what it cost."""
        return {
            "usage": dict(self.usage),
            "finish": self.finish,
            "tries": 1 + self.more_tries,
            "tool_calls": self.tool_calls,
            "messages": self.messages,
            "turns": [turn.as_dict() for turn in self.turns],
        }

    def _response(self) -> dict[str, Any]:
        return {"output": output_items(self.messages[self.begun :]), "finish_reason": self.finish}


def _is_sent_whole(message: Message) -> bool:
    return isinstance(message, dict) and message.keys() <= OF_ENGINE.keys()


def _part(message: Message) -> Message:
    return {name: message[name] for name in OF_ENGINE if name in message}
