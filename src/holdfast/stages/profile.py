"""What we must know of a program that we do not control: when it is done, how it progresses, how to stop it.

Four ship as YAML (`holdfast/profiles`); yours is a file of the same form, named by its path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from holdfast.core import config, files, kind
from holdfast.core.errors import ConfigError
from holdfast.core.schema import Schema, validate
from holdfast.execute import outsiders

FOLDER = Path(__file__).parents[1] / "profiles"
SIGNALS = ("", "USR1", "USR2", "TERM", "INT", "HUP")


class Done(kind.Params):
    """When the program is done, beside exit code 0, which for a trainer is no completion."""

    exit_zero: bool = False
    """Exit code 0 is enough."""
    makes: tuple[str, ...] = ()
    """Globs below the home, each of which must match."""
    state: str = ""
    """The JSON file in a checkpoint that says how far it is."""
    step: str = ""
    """Its key with the steps that are done. Without: the number in the checkpoint's name."""
    total: str = ""
    """Its key with the steps that there are to do."""
    latest: str = ""
    """A file below the home that holds the number of the newest complete checkpoint."""
    steps: tuple[str, ...] = ()
    """Where in the config the number of steps is; the first that is there. Unknown: a checkpoint is enough."""
    epoch: str = ""
    """The key of `state` with the epoch, counted from 0."""
    epochs: tuple[str, ...] = ()
    """Where in the config the number of epochs is: the last one ends the run before its steps do."""
    unless_printed: tuple[str, ...] = ()
    """Words with which the program says that it ended before its time."""


class Resources(kind.Params):
    """Where in the config nodes, and GPUs of each, are; the first key that is there."""

    nodes: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


class Profile(Schema):
    """One kind of program."""

    name: str
    recognised_by: tuple[str, ...] = ()
    """Keys that a config for this program has; it is taken where all of them are there and nobody named a profile."""
    launcher: Literal["plain", "torchrun", "ray"] = "plain"
    """What starts it on a cluster."""
    override: str = "{key}={value}"
    """How it takes an override."""
    checkpoints: tuple[str, ...] = ()
    """Globs of its checkpoints below the home, the step for the star."""
    done_when: Done = Field(default_factory=Done)
    stop_signal: str = ""
    """What asks it to save; none by default, since USR1 ends a program that has no handler."""
    resources: Resources = Field(default_factory=Resources)
    placement: tuple[str, ...] = ()
    """Keys and sections of the config that say where it runs and what it is called: no part of what it is."""
    inject: dict[str, str] = Field(default_factory=dict)
    """Overrides that are added where the config has the key and the user did not set it; the words in braces are home,
    name, group, nodes, gpus, wandb (true or false) and must_save_by (D:H:M:S).
    """
    loose: tuple[str, ...] = ()
    """Globs of files that others append to: listed, not sealed."""

    @field_validator("stop_signal")
    @classmethod
    def check_signal(cls, name: str) -> str:
        if name not in SIGNALS:
            raise ValueError(f"expected one of {', '.join(SIGNALS[1:])}")
        return name

    @field_validator("checkpoints")
    @classmethod
    def check_globs(cls, globs: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [glob for glob in globs if glob.rpartition("/")[2].count("*") != 1 or "*" in glob.rpartition("/")[0]]
        if wrong:
            raise ValueError(f"{wrong[0]} must have one star, for the step, in its last part")
        return globs


def load(name: str) -> Profile:
    """The profile of this name, or in the YAML file at this path.

    Raises:
        ConfigError: there is none, or it says something impossible.
    """
    path = FOLDER / f"{name}.yaml" if name in shipped() else Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"there is no profile `{name}`", f"profiles: {', '.join(shipped())}, or the path of a YAML file"
        )
    return validate(Profile, config.load(path), f"profile {path}")


def shipped() -> list[str]:
    """The names of those that come with us."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recognise(content: Mapping[str, Any]) -> Profile:
    """The shipped profile whose keys a config has, `plain` where there is none."""
    for name in shipped():
        profile = load(name)
        if profile.recognised_by and all(find(content, key) is not MISSING for key in profile.recognised_by):
            return profile
    return load("plain")


MISSING = object()


def find(content: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, MISSING where there is none."""
    section: Any = content
    for part in key.split("."):
        if not isinstance(section, Mapping) or part not in section:
            return MISSING
        section = section[part]
    return section


def still_owed(profile: Profile, total: int | None, epochs: int | None, home: Path, output: Path) -> str | None:
    """After exit code 0: why the program is not done, None if it is."""
    done = profile.done_when
    absent = [glob for glob in done.makes if not any(home.glob(glob))]
    if absent:
        return f"exited 0 without {', '.join(absent)}"
    if done.exit_zero or not profile.checkpoints:
        return None
    number, checkpoint = outsiders.newest(home, profile.checkpoints)
    if checkpoint is None:
        return f"exited 0 without a checkpoint {profile.checkpoints[0]}"
    state = _state(checkpoint / done.state) if done.state else {}
    if state is None:
        return f"exited 0, and its newest checkpoint {checkpoint.name} has no readable {done.state}"
    reached = _latest(home / done.latest) if done.latest else int(state.get(done.step, number))
    total = total if total is not None else state.get(done.total)
    early = _said_early(done, output)
    if total is None:
        return f"exited 0 at step {reached}, and said: {early}" if early else None
    over = epochs is not None and not early and int(state.get(done.epoch, -1)) + 1 >= epochs
    return (
        None if reached >= total or over else f"exited 0 at step {reached} of {total}" + (f": {early}" if early else "")
    )


def _state(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _latest(path: Path) -> int:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return 0


def _said_early(done: Done, output: Path) -> str:
    if not done.unless_printed:
        return ""
    tail = files.read_tail(output, 1 << 20).decode(errors="replace")
    return next((words for words in done.unless_printed if words in tail), "")
