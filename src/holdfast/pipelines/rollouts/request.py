"""What a person asks of `holdfast rollout run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from holdfast.core.errors import ConfigError
from holdfast.pipelines.launch import request as launches
from holdfast.pipelines.rollouts import settings
from holdfast.pipelines.rollouts.settings import Settings


@dataclass(frozen=True)
class Request:
    """One command line. `placed` has the flags that `launch` has, too. `slices`: so many tasks share the collection;
    `once`: no further try by itself.
    """

    config: Path
    placed: launches.Request = field(default_factory=launches.Request)
    engine: str | None = None
    url: str | None = None
    accept_missing: int | None = None
    slices: int | None = None
    once: bool = False

    def settings(self) -> Settings:
        """The config with the overrides, those flags first that stand for one: what was typed as an override wins.

        Raises:
            ConfigError: it says something impossible.
        """
        flags = {
            "name": self.placed.jobname,
            "engine.name": self.engine,
            "engine.url": self.url,
            "collection.accept_missing": self.accept_missing,
        }
        said = (f"{key}={value}" for key, value in flags.items() if value is not None)
        if not self.config.is_file():
            raise ConfigError(f"there is no config at {self.config} (from {Path.cwd()})", "give a YAML file")
        return settings.settle(self.config, [*said, *self.placed.tokens])
