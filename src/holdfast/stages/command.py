"""Any program as a stage: a training script, a binary, one line of shell that a person wrote as tokens.

The program is told where to write by `HOLDFAST_OUT`, may append `{"step": ..., "name": ..., "value": ...}` lines to
`HOLDFAST_METRICS`, which also say how far it is, and is complete when it ends well and what it promised to make is
there, or its profile says so.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from holdfast.core import artifact, files, kind, near
from holdfast.core.errors import ConfigError
from holdfast.core.kind import Kind, Surroundings, added, placed
from holdfast.core.stage import Ref
from holdfast.stages import profile
from holdfast.stages.profile import Profile

BRACES = re.compile(r"(?<!\$)\{([A-Za-z][\w.@%+-]*)\}")
"""What may be a placeholder of ours: a shell's `${x}` is none, nor what holds spaces, quotes, commas or colons."""
F_STRING = re.compile(r"\bf[\"']|\.format\(")
LIKE_OUT = ("out", "output", "outdir", "out_dir", "output_dir")
LIKE_INPUT = ("in", "input", "inputs")
MOST_FILES = 1000


class CommandParams(kind.Params):
    """What is run, and when it is done. What is `placed` says how, and is no part of the key."""

    command: tuple[str, ...] = Field(min_length=1)
    """Tokens, never re-parsed. `{out}`, `{python}` and `{inputs.NAME}` are replaced, unless `tokens` say it all."""
    makes: tuple[str, ...] = ()
    """Files that must be in its home, not empty, when it has ended with exit code 0; a glob must match one."""
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
    has_inner = False
    loose = ("*.log", "logs/*", "wandb/*", "*tfevents*")
    Params = CommandParams

    def check_inputs(self, given: Mapping[str, Ref]) -> None:
        """A command may have any inputs."""

    def check_plan(self, params: Mapping[str, Any], inputs: Mapping[str, Ref]) -> None:
        """Refuses what looks like a placeholder and is none: a program that reads `{input.a}` helps nobody."""
        known = ["out", "python", *(f"inputs.{name}" for name in inputs)]
        for token in () if params.get("tokens") else params["command"]:
            for found in _strangers(token, known) if "{" in token else ():
                raise ConfigError(f"command has no placeholder `{{{found}}}`: in {token[:80]!r}", _meant(found, known))
        for name in params.get("makes", ()):
            if "{" in name and re.search(r"\{(out|python|inputs\..*)\}", name):
                raise ConfigError(
                    f"makes has no placeholders: {name!r}",
                    f"names there are below its home: {name.rpartition('}/')[2]}",
                )

    def command(self, params: CommandParams, inputs: Mapping[str, Path], home: Path) -> list[str]:
        return list(params.tokens) or [_fill(token, inputs, home) for token in params.command]

    def surroundings(self, params: CommandParams) -> Surroundings:
        known = params.profile
        progress = (
            profile.progress(known, params.total_steps) if known else {"checkpoints": (), "total": params.total_steps}
        )
        return Surroundings(
            directory=params.directory,
            variables={**params.variables, **params.env},
            folders=params.folders,
            reads=params.reads,
            progress=progress,
            stop_signal=known.stop_signal if known else "",
        )

    def owed(self, params: CommandParams, home: Path) -> str | None:
        absent = [words for name in params.makes if (words := _absent(home, name))]
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
    if "{" not in token:
        return token
    values = {"out": home, "python": sys.executable, **{f"inputs.{name}": path for name, path in inputs.items()}}
    names = "|".join(map(re.escape, values))
    return re.sub(rf"(?<!\$)\{{({names})\}}", lambda match: str(values[match[1]]), token)


def _strangers(token: str, known: list[str]) -> Iterator[str]:
    """What stands in braces and looks like a placeholder, but is none. A Python f-string has its own."""
    strange = [name for name in BRACES.findall(token) if name not in known]
    for name in strange if strange and not F_STRING.search(token) else ():
        first = name.partition(".")[0].lower()
        is_input = first in LIKE_INPUT or ("." in name and near.name(first, LIKE_INPUT, 0.8))
        if is_input or near.name(name.lower(), (*LIKE_OUT, "python"), 0.8):
            yield name


def _meant(name: str, known: list[str]) -> str:
    first, dot, rest = name.partition(".")
    if first.lower() in LIKE_OUT:
        return "did you mean `{out}`?"
    inputs = [each.removeprefix("inputs.") for each in known if each.startswith("inputs.")]
    close = near.name(rest, inputs) if dot else near.name(name.lower(), ["python"])
    if close:
        return f"did you mean `{{{f'inputs.{close}' if dot else close}}}`?"
    shown = ", ".join(f"{{{each}}}" for each in known)
    return f"placeholders of this stage: {shown}; {{inputs.NAME}} is one for each NAME under `inputs:`"


def _absent(home: Path, name: str) -> str | None:
    """What is wrong with a file that was promised, None if it is made. A name is itself before it is a glob."""
    found = [home / name] if os.path.lexists(home / name) else _matches(home, name)
    if any(path.is_dir() or (path.is_file() and path.stat().st_size > 0) for path in found):
        return None
    if found:
        return f"{name} is empty" if found[0].is_file() else f"{name} is no file"
    there = list(_files_below(home))
    close = [each for each in [near.name(name, there), *there] if each]
    return f"{name} (there is: {near.listed(dict.fromkeys(close))})" if close else f"{name} (nothing is there)"


def _matches(home: Path, glob: str) -> list[Path]:
    try:
        return sorted(home.glob(glob)) if set(glob) & set("*?[") else []
    except (NotImplementedError, ValueError):
        return []  # an absolute path, or no glob


def _files_below(home: Path) -> Iterator[str]:
    """Names of the files that a program left in its home, as many as can be looked through at once."""
    count = 0
    for parent, folders, names in os.walk(home):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                return
            if not name.startswith(".") and not files.is_leftover(name) and name != artifact.METRICS:
                yield os.path.relpath(os.path.join(parent, name), home)
