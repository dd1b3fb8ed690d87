"""Any program as a stage: a training script, a binary, one line of shell that a person wrote as tokens.

The program is told where to write by `HOLDFAST_OUT`, may append `{"step": ..., "name": ..., "value": ...}` lines to
`HOLDFAST_METRICS`, and is complete when it ends well and what it promised to make is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from holdfast.core import kind
from holdfast.core.kind import Kind
from holdfast.core.stage import Ref


class CommandParams(kind.Params):
    """What is run, and when it is done."""

    command: tuple[str, ...] = Field(min_length=1)
    """Tokens, never re-parsed. `{out}`, `{python}` and `{inputs.NAME}` are replaced."""
    makes: tuple[str, ...] = ()
    """Files that must be in its home, not empty, when it has ended with exit code 0."""


class Command(Kind):
    """Exclusive: a program that we do not control is never run twice at once without proof of death."""

    name = "command"
    exclusive = True
    loose = ("*.log", "logs/*", "wandb/*", "*tfevents*")
    Params = CommandParams

    def check_inputs(self, given: Mapping[str, Ref]) -> None:
        """A command may have any inputs."""

    def command(self, params: CommandParams, inputs: Mapping[str, Path], home: Path) -> list[str]:
        return [_fill(token, inputs, home) for token in params.command]

    def owed(self, params: CommandParams, home: Path) -> str | None:
        absent = [name for name in params.makes if not _is_made(home / name)]
        return f"exited 0 without its output: {', '.join(absent)}" if absent else None


def _fill(token: str, inputs: Mapping[str, Path], home: Path) -> str:
    """Only the three placeholders are known: braces of a program's own arguments stay as they are."""
    import sys

    token = token.replace("{out}", str(home)).replace("{python}", sys.executable)
    for name, path in inputs.items():
        token = token.replace(f"{{inputs.{name}}}", str(path))
    return token


def _is_made(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)
