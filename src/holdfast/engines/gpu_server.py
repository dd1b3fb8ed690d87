"""A server for GPUs that we start: its command line, from the flags that it has for our options."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from holdfast.core.service import Service
from holdfast.engines import EVERY_FIELD, Capabilities, Engine

COMMON = frozenset({"engine_timeout", "engine_arguments"})
"""Options for which no server needs a flag."""


class GpuServer(Engine):
    """`flags` has the server's flag for each of our options, in the order of the command line; a flag of something that
    is on or off stands alone. What has its default is left to the server. `environment` keeps it off the network.
    """

    capabilities = Capabilities(EVERY_FIELD, tools="parser")
    flags: ClassVar[Mapping[str, str]]
    environment: ClassVar[Mapping[str, str]]

    def service(self, model: Path, tokens: int) -> Service:
        """See `Engine.service`."""
        listen = ("--served-model-name", model.name, "--host", "{host}", "--port", "{port}")
        command = (*self._program(model), *listen, *self._always(), *self._chosen(), *self.serving.engine_arguments)
        return Service("engine", command, env=dict(self.environment), timeout=self.serving.engine_timeout)

    @abstractmethod
    def _program(self, model: Path) -> tuple[str, ...]:
        """What serves the model directory `model`."""

    @abstractmethod
    def _always(self) -> tuple[str, ...]:
        """What our promises about this server need."""

    def _chosen(self) -> Iterator[str]:
        chosen = self.serving.chosen()
        for option, flag in self.flags.items():
            if option in chosen:
                value = getattr(self.serving, option)
                yield from (flag,) if value is True else (flag, str(value))
