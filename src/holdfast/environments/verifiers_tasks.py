"""Tasks of the library `verifiers` (its v1), asked by us and scored by their own `@reward` methods.

https://github.com/PrimeIntellect-ai/verifiers. A taskset is named as there, by its module. What is taken is the part of
it that is a chat: tasks with a prompt, and rewards that read the trace. One that needs a container, tool servers or a
harness of its own is refused, since its rollout is that harness's; so is a reward that needs a runtime.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import metadata
from typing import Any, ClassVar

from pydantic import Field

from holdfast.core.errors import ConfigError
from holdfast.environments import Settings
from holdfast.environments.episodes import Episode, Episodes, Message, Start, Step
from holdfast.environments.prompt_set import OwnPrompts, Prompts, Row

INSTALL = "pip install 'holdfast[environments]'"


class VerifiersSettings(Settings):
    """Which tasks."""

    taskset: str
    """The module that has it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the taskset's config has."""
    count: int = Field(100, ge=1)
    """The first so many."""
    taskset_version: str = ""
    """Raise it when the taskset's rewards change their meaning."""
    library: str | None = None
    """Its version, when the work was planned."""


class VerifiersTasks(Episodes):
    name = "verifiers"
    turns = 1
    Settings: ClassVar[type[Settings]] = VerifiersSettings

    def choice(self) -> dict[str, Any]:
        return {name: value for name, value in self.resolved().items() if name != "count"}

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "library": self.settings.library or _version()}

    def prompts(self) -> Prompts:
        """
        Raises:
            ConfigError: there is no such taskset, or it is none that can be asked here.
        """
        rows = {name: {"id": name, "messages": _messages(task.data)} for name, task in self._tasks.items()}
        return OwnPrompts(rows)

    def new(self) -> Episode:
        return _Asked(self.settings, self._tasks)

    @cached_property
    def _tasks(self) -> Mapping[str, Any]:
        _version()
        from verifiers.v1.utils.loaders import taskset_class

        chosen = self.settings
        try:
            found = taskset_class(chosen.taskset)
            config = inspect.signature(found.__init__).parameters["config"].annotation
            config = _config_type(found, config)
            taskset = found(config(id=chosen.taskset, **chosen.options))
            tasks = list(taskset.take(chosen.count))
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            says = f"taskset {chosen.taskset!r} of verifiers cannot be loaded: {' '.join(str(error).split())[:300]}"
            raise ConfigError(says, "install it, and name its module") from None
        if found.toolsets(taskset.config):
            raise ConfigError(f"taskset {chosen.taskset!r} has tool servers", "run it with verifiers itself")
        for task in tasks:
            _check(task, chosen.taskset)
        return {str(task.key): task for task in tasks}


class _Asked(Episode):
    def __init__(self, settings: Any, tasks: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._tasks = tasks

    def start(self, seed: int, row: Row) -> Start:
        self._task = self._tasks[str(row["id"])]
        self._messages: list[Message] = list(row["messages"])
        return Start(self._messages)

    async def step(self, message: Message) -> Step:
        trace = _trace(self._task, [*self._messages, message])
        await self._task.score(trace)
        parts = {name: each.value for name, each in trace.rewards.items() if each is not None}
        info = {"rewards": parts, "metrics": {name: each for name, each in trace.metrics.items() if each is not None}}
        return Step([], float(trace.reward), terminated=True, info=info)


def _config_type(taskset: type[Any], written: Any) -> Any:
    """The class of a taskset's config: what it was made generic over."""
    from verifiers.v1.configs.taskset import TasksetConfig
    from verifiers.v1.utils.generic import concrete_type

    if isinstance(written, type) and issubclass(written, TasksetConfig):
        return written
    return concrete_type(taskset, TasksetConfig) or TasksetConfig


def _check(task: Any, name: str) -> None:
    """
    Raises:
        ConfigError: the task is more than a chat.
    """
    needs = [
        (task.NEEDS_CONTAINER or task.data.image is not None, "a container"),
        (bool(type(task).toolsets(task.config)), "tool servers"),
        (task.data.prompt is None, "a user that opens the conversation"),
        (any(map(_needs_runtime, task.hooks("reward"))), "a runtime for its rewards"),
    ]
    for is_needed, what in needs:
        if is_needed:
            raise ConfigError(f"a task of {name!r} needs {what}", "run it with verifiers itself")


def _needs_runtime(reward: Any) -> bool:
    parameter = inspect.signature(reward).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _messages(data: Any) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    if isinstance(data.prompt, str):
        return [*system, {"role": "user", "content": data.prompt}]
    return system + [{"role": each.role, "content": _text(each.content)} for each in data.prompt]


def _text(content: Any) -> str:
    from verifiers.v1.types import content_text

    return str(content_text(content))


def _trace(task: Any, messages: Sequence[Message]) -> Any:
    """What the task's rewards read: the chat, its last message being the model's."""
    from verifiers.v1.configs.agent import AgentConfig
    from verifiers.v1.graph import MessageNode
    from verifiers.v1.trace import AgentInfo, Trace, TraceTask

    nodes = [
        MessageNode(
            parent=number - 1 if number else None,
            message={"role": each["role"], "content": each["content"]},
            sampled=number == len(messages) - 1,
        )
        for number, each in enumerate(messages)
    ]
    seen = TraceTask(type=type(task).__name__, data=task.data, key=task.key)
    return Trace(task=seen, agent=AgentInfo(config=AgentConfig()), nodes=nodes)


def _version() -> str:
    try:
        return metadata.version("verifiers")
    except metadata.PackageNotFoundError:
        raise ConfigError("environment verifiers needs verifiers, which is not there", INSTALL) from None
