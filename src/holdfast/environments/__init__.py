"""Environments: problems with a reward. What an evaluation asks, and what a training run learns from.

One ships (`addition`); yours is `package.module:Class`, derived from `Environment`, and needs no registration.
"""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.core.errors import ConfigError

SHIPPED = {"addition": "holdfast.environments.addition:Addition"}


class Prompt(NamedTuple):
    """One problem: an id that never changes its meaning, and the text that the model continues."""

    id: str
    text: str


class Settings(BaseModel):
    """Which problems, of all that an environment has: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Environment(ABC):
    """Single-turn problems.

    `name` and `version` are part of the identity of every row: raise `version` when an id, a prompt or a reward
    changes its meaning. Settings only choose among the problems, so a larger choice owes only the difference.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    max_tokens: ClassVar[int]
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def identity(self) -> dict[str, Any]:
        """What a row's key says of where it came from."""
        return {"environment": self.name, "version": self.version}

    @abstractmethod
    def prompts(self) -> Sequence[Prompt]:
        """The chosen problems, always in the same order."""

    @abstractmethod
    def reward(self, prompt_id: str, completion: str) -> float:
        """What a completion (text, special tokens removed) of this problem is worth; 1.0 or more counts as solved."""


def load_environment(name: str, settings: Mapping[str, Any] | None = None) -> Environment:
    """The environment of this name with these settings.

    Raises:
        ConfigError: no such environment, or a setting that it does not have or cannot take.
    """
    module, _, attribute = SHIPPED.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, SHIPPED, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"environments: {', '.join(SHIPPED)}, or package.module:Class"
        raise ConfigError(f"there is no environment `{name}`", hint)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(
            f"environment `{name}` cannot be imported: {error}", "is its package on PYTHONPATH?"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Environment)):
        raise ConfigError(
            f"environment `{name}` is {found!r}, not derived from Environment", "see environments/addition.py"
        )
    return found(_parse(found, name, dict(settings or {})))


def _parse(environment: type[Environment], name: str, settings: Mapping[str, Any]) -> Settings:
    try:
        return environment.Settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        near = difflib.get_close_matches(key, environment.Settings.model_fields, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"settings: {', '.join(environment.Settings.model_fields)}"
        raise ConfigError(f"environment {name}: {key} = {first['input']!r}: {first['msg']}", hint) from None
