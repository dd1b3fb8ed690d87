"""Environments: problems with a reward. What an evaluation asks, and what a training run learns from.

Of one turn: `addition`, `arithmetic`, `dataset` (a hub's or your own), `reasoning_gym`. Those of several turns, with
tools, are in `holdfast.environments.episodes`, which reads these as episodes of one turn. Yours is
`package.module:Class`, derived from `Environment`, and needs no registration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from holdfast.core.plugins import load_class
from holdfast.core.schema import Schema, validate
from holdfast.verifiers import Grade

__all__ = ["Environment", "Grade", "Prompt", "Settings", "load_environment", "with_version"]

SHIPPED = {
    "addition": "holdfast.environments.addition:Addition",
    "arithmetic": "holdfast.environments.arithmetic:Arithmetic",
    "dataset": "holdfast.environments.dataset:Dataset",
    "reasoning_gym": "holdfast.environments.reasoning_gym:ReasoningGym",
}


class Prompt(NamedTuple):
    """One problem: an id that never changes its meaning, and the text that the model continues; with `messages`, a
    chat that it answers (`text` is then what a person reads).
    """

    id: str
    text: str
    messages: tuple[Mapping[str, str], ...] = ()


class Settings(Schema):
    """Which problems, of all that an environment has."""


class Source:
    """Whatever can be named as an environment: an `Environment` here; `Episode` and `Episodes` of several turns.

    `name` and `version` are part of the identity of every row: raise `version` when an id, a prompt or a reward
    changes its meaning.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any) -> None:
        self.settings = settings


class Environment(Source, ABC):
    """Single-turn problems. Settings only choose among the problems, so a larger choice owes only the difference."""

    max_tokens: ClassVar[int]
    is_blocking: ClassVar[bool] = False
    """Whether `grade` may take so long that it is better run in a thread."""

    def identity(self) -> dict[str, Any]:
        """What a row's key says of where it came from: all that a prompt id and its reward depend on, and nothing of
        which problems were chosen. Cheap, needs no library, and is the same wherever it is asked.
        """
        return {"environment": self.name, "version": self.version}

    def choice(self) -> dict[str, Any]:
        """Which of the problems, of those that `identity` names."""
        return dict(self.settings.model_dump(mode="json"))

    def resolved(self) -> dict[str, Any]:
        """The settings with all that planning found out (a commit, a digest, the text of a template), so that whoever
        loads the environment from them later asks the same or refuses.
        """
        return dict(self.settings.model_dump(mode="json"))

    @property
    def verifier(self) -> str | None:
        """The verifier that grades `solution`, for those who have a `VerifierPool`; None: `grade` is fast and safe."""
        return None

    def solution(self, prompt_id: str) -> Any:
        """What the verifier is given beside the response, as JSON has it."""
        raise NotImplementedError(f"environment {self.name} has no verifier")

    @abstractmethod
    def prompts(self) -> Sequence[Prompt]:
        """The chosen problems, always in the same order."""

    @abstractmethod
    def reward(self, prompt_id: str, completion: str) -> float:
        """What a completion (text, special tokens removed) of this problem is worth; 1.0 or more counts as solved."""

    def grade(self, prompt_id: str, completion: str) -> Grade:
        """The reward, and for voting the answer that was found in the completion (None where there is none)."""
        return Grade(self.reward(prompt_id, completion))


def load_environment(name: str, settings: Mapping[str, Any] | None = None) -> Environment:
    """The environment of this name with these settings.

    Raises:
        ConfigError: no such environment, or a setting that it does not have or cannot take.
    """
    # The abstract base is only what the class must be derived from.
    found = load_class(name, SHIPPED, Environment, "environment")  # type: ignore[type-abstract]
    return found(validate(found.Settings, settings or {}, f"environment {name}"))


def settings_of(name: str) -> frozenset[str]:
    """The names of the settings that an environment has.

    Raises:
        ConfigError: there is no such environment.
    """
    found = load_class(name, SHIPPED, Environment, "environment")  # type: ignore[type-abstract]
    return frozenset(found.Settings.model_fields)


def with_version(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stage's params with the version of the environment that they name, since a raised version owes the work anew,
    and with what planning found out about its problems: a commit, a digest, the text of a template.

    Raises:
        ConfigError: there is no such environment, or it has no such setting.
    """
    environment = load_environment(params["environment"], params.get("settings"))
    resolved = environment.resolved()
    filled = {**params, "environment_version": environment.version}
    if resolved != environment.settings.model_dump(mode="json"):
        filled["settings"] = {name: value for name, value in resolved.items() if value is not None}
    return filled
