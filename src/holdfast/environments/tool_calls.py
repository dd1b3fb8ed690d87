"""Tool calls of a chat, in the form of OpenAI's API, and episodes that are made of tools.

https://platform.openai.com/docs/guides/function-calling: an assistant's message has `tool_calls`, each with an id, a
name and arguments as a text in JSON; each is answered by a message of the role `tool` with that id.
"""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from holdfast.environments.episodes import Episode, Message, Step


class ToolCall(NamedTuple):
    """A call that names a tool and has arguments."""

    id: str
    name: str
    arguments: Mapping[str, Any]


class Outcome(NamedTuple):
    """What one call gave: a text, or what becomes one in JSON; the rest as in `Step`."""

    content: Any
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = {}
    actions: int = 1


def read_calls(message: Message) -> list[ToolCall]:
    """The calls of a message that the loop handed to `step`."""
    return [
        ToolCall(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
        for call in message.get("tool_calls") or ()
    ]


def answer(call_id: str, name: str, content: Any) -> Message:
    """The message that answers a call."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": text}


def function(
    name: str, description: str, properties: Mapping[str, Any], required: Sequence[str] = ()
) -> dict[str, Any]:
    """A tool as requests carry it."""
    parameters = {"type": "object", "properties": dict(properties), "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


class ToolEpisode(Episode):
    """An episode whose steps are calls of tools, one after another. A message without any ends it."""

    has_tools: ClassVar[bool] = True

    @abstractmethod
    def call(self, call: ToolCall) -> Outcome | Awaitable[Outcome]:
        """Carry out one call.

        Raises:
            EpisodeError: the environment fails.
        """

    def said(self, message: Message) -> Step | Awaitable[Step]:
        """Take a message without calls."""
        return Step(terminated=True, actions=0)

    async def step(self, message: Message) -> Step:
        """Carry out the calls of a message; those behind one that ends the episode are not carried out."""
        calls = read_calls(message)
        if not calls:
            found = self.said(message)
            return await found if inspect.isawaitable(found) else found
        messages: list[Message] = []
        done: list[Outcome] = []
        for call in calls:
            if done and (done[-1].terminated or done[-1].truncated):
                messages.append(answer(call.id, call.name, {"error": "not carried out: it is over"}))
                continue
            made = self.call(call)
            done.append(await made if inspect.isawaitable(made) else made)
            messages.append(answer(call.id, call.name, done[-1].content))
        return _together(messages, done)


def _together(messages: Sequence[Message], done: Sequence[Outcome]) -> Step:
    info = dict(done[0].info) if len(done) == 1 else {"calls": [dict(each.info) for each in done], **done[-1].info}
    return Step(
        messages,
        sum(each.reward for each in done),
        done[-1].terminated,
        done[-1].truncated,
        info,
        sum(each.actions for each in done),
    )
