"""Any program as a stage: a training script, a binary, one line of shell that a person wrote as tokens.

The program is told where to write by `HOLDFAST_OUT`, may append `{"step": ..., "name": ..., "value": ...}` lines to
`HOLDFAST_METRICS`, and is complete when it ends well and what it promised to make is there, or its profile says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from holdfast.core import kind
from holdfast.core.kind import Kind, Surroundings, added, placed
from holdfast.core.stage import Ref
from holdfast.stages import profile
from holdfast.stages.profile import Profile


class CommandParams(kind.Params):
    """What is run, and when it is done. What is `placed` says how, and is no part of the key."""

    command: tuple[str, ...] = Field(min_length=1)
    """Tokens, never re-parsed. `{out}`, `{python}` and `{inputs.NAME}` are replaced, unless `tokens` say it all."""
    makes: tuple[str, ...] = ()
    """Files that must be in its home, not empty, when it has ended with exit code 0."""
    config: dict[str, Any] | None = added(None, as_before=None)
    """What its config says, overrides merged in, without what only says where it runs."""
    env: dict[str, str] = added({}, as_before={})
    """Variables that it gets, by name."""
    again: str = added("", as_before="")
    """Tells a fresh result of the same work from the one before."""
    tokens: tuple[str, ...] = placed(())
    """The exact command line, nothing replaced."""
    directory: str = placed("")
    """Where it runs; empty: where it was submitted."""
    variables: dict[str, str] = placed({})
    """Variables that say where and under which name, not what."""
    folders: tuple[str, ...] = placed(())
    """Directories that are made in its home before it starts."""
    reads: dict[str, str] = placed({})
    """sha256 of the files that `config` was read from, checked when an attempt starts."""
    profile: Profile | None = placed(None)
    """What is known of the program."""
    total_steps: int | None = placed(None)
    """Where it ends, by its config."""
    total_epochs: int | None = placed(None)
    code: dict[str, Any] = placed({})
    """Digest and revision of its code when it was submitted."""


class Command(Kind):
    """Exclusive: a program that we do not control is never run twice at once without proof of death."""

    name = "command"
    exclusive = True
    loose = ("*.log", "logs/*", "wandb/*", "*tfevents*")
    Params = CommandParams

    def check_inputs(self, given: Mapping[str, Ref]) -> None:
        """A command may have any inputs."""

    def command(self, params: CommandParams, inputs: Mapping[str, Path], home: Path) -> list[str]:
        return list(params.tokens) or [_fill(token, inputs, home) for token in params.command]

    def surroundings(self, params: CommandParams) -> Surroundings:
        known = params.profile
        progress = profile.progress(known, params.total_steps) if known else {}
        return Surroundings(
            directory=params.directory,
            variables={**params.variables, **params.env},
            folders=params.folders,
            reads=params.reads,
            progress=progress,
            stop_signal=known.stop_signal if known else "",
        )

    def owed(self, params: CommandParams, home: Path) -> str | None:
        absent = [name for name in params.makes if not _is_made(home / name)]
        return f"exited 0 without its output: {', '.join(absent)}" if absent else None

    def judge(self, params: CommandParams, home: Path, output: Path) -> str | None:
        known = params.profile
        by_profile = profile.still_owed(known, params.total_steps, params.total_epochs, home, output) if known else None
        return self.owed(params, home) or by_profile

    def loose_files(self, params: CommandParams) -> tuple[str, ...]:
        return (*self.loose, *(params.profile.loose if params.profile else ()))

    def code(self, params: CommandParams) -> dict[str, Any]:
        return params.code


def _fill(token: str, inputs: Mapping[str, Path], home: Path) -> str:
    """Only the three placeholders are known: braces of a program's own arguments stay as they are."""
    import sys

    token = token.replace("{out}", str(home)).replace("{python}", sys.executable)
    for name, path in inputs.items():
        token = token.replace(f"{{inputs.{name}}}", str(path))
    return token


def _is_made(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size > 0)
