"""What we must know of a program that we do not control: when it is done, how it progresses, how to stop it.

Four ship as YAML (`holdfast/profiles`); yours is a file of the same form, named by its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from holdfast.core import config, files, kind
from holdfast.core.errors import ConfigError
from holdfast.core.schema import Schema, validate
from holdfast.execute import outsiders

FOLDER = Path(__file__).parents[1] / "profiles"
BEGINNING = 8 << 20
SIGNALS = ("", "USR1", "USR2", "TERM", "INT", "HUP")


class Done(kind.Params):
    """When the program is done, beside exit code 0, which for a trainer is no completion."""

    exit_zero: bool = False
    """Exit code 0 is enough."""
    makes: tuple[str, ...] = ()
    """Globs below the home, each of which must match."""
    exit_zero_if: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Keys of the config, and the values (null: not there) with which its checkpoints say nothing of its end, since it
    writes none, or only good ones: exit code 0 is enough then.
    """
    state: str = ""
    """The JSON file in a checkpoint that says how far it is; a checkpoint without it is not whole."""
    unfinished: str = ""
    """A file that is in a checkpoint while that is written."""
    step: str = ""
    """Its key with the steps that are done. Without: the number in the checkpoint's name."""
    total: str = ""
    """Its key with the steps that there are to do."""
    latest: str = ""
    """A file below the home that holds the number of the newest complete checkpoint."""
    steps: tuple[str, ...] = ()
    """Where in the config the number of steps is; the first that is there. Unknown: a checkpoint is enough."""
    total_printed: str = ""
    """A pattern with one group: how it prints the number of steps, where its config does not say it."""
    epoch: tuple[str, ...] = ()
    """The key of `state` with the epoch, counted from 0; the first that is there."""
    epochs: tuple[str, ...] = ()
    """Where in the config the number of epochs is: the last one ends the run before its steps do."""
    printed: tuple[str, ...] = ()
    """Words with which the program says that it came to its end, whatever its steps."""
    unless_printed: tuple[str, ...] = ()
    """Words with which the program says that it ended before its time."""

    @field_validator("epoch", mode="before")
    @classmethod
    def one_or_more(cls, keys: Any) -> Any:
        return tuple(key for key in ([keys] if isinstance(keys, str) else keys) if key)

    @field_validator("total_printed")
    @classmethod
    def check_pattern(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        if pattern and groups != 1:
            raise ValueError(f"{pattern!r} has {groups} groups, expected one, for the number")
        return pattern


class Resources(kind.Params):
    """Where in the config nodes, and GPUs of each, are; the first key that is there."""

    nodes: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()


class Reporters(kind.Params):
    """Where the config names what the program reports to, W&B among others."""

    key: str = ""
    add: str = ""
    """What is injected where W&B is on and the config has no such key; nothing by default."""
    nothing: str = ""
    """How the program says that it reports to nothing."""


class Profile(Schema):
    """One kind of program."""

    name: str
    recognised_by: tuple[str, ...] = ()
    """Keys that a config for this program has; it is taken where all of them are there and nobody named a profile."""
    launcher: Literal["plain", "torchrun", "ray"] = "plain"
    """What starts it on a cluster."""
    config: tuple[str, ...] = ("--config", "{path}")
    """How it takes its config; the words in braces are path, directory and stem (its name without what follows the
    dot).
    """
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
    always: tuple[str, ...] = ()
    """Keys of `inject` that the program has, whether or not its config says so."""
    resume: str = ""
    """The key with the checkpoint to go on from. An attempt that finds a whole one sets it, unless the user did."""
    reporters: Reporters = Field(default_factory=Reporters)
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


def progress(profile: Profile, total: int | None) -> dict[str, Any]:
    """What a supervisor must know to see how far the program is, and to have it go on from there."""
    done = profile.done_when
    resume = profile.override.format(key=profile.resume, value=outsiders.CHECKPOINT) if profile.resume else ""
    known = {"state": done.state, "of": done.total, "unfinished": done.unfinished, "latest": done.latest}
    return {
        "checkpoints": profile.checkpoints,
        "total": total,
        **{name: value for name, value in {**known, "resume": resume}.items() if value},
    }


def for_config(profile: Profile, content: Mapping[str, Any]) -> Profile:
    """The profile as it holds for a program with this config."""
    for key, values in profile.done_when.exit_zero_if.items():
        value = find(content, key)
        if (None if value is MISSING else value) in values:
            done = profile.done_when.model_copy(update={"exit_zero": True})
            return profile.model_copy(update={"done_when": done})
    return profile


def still_owed(profile: Profile, total: int | None, epochs: int | None, home: Path, output: Path) -> str | None:
    """After exit code 0: why the program is not done, None if it is."""
    done = profile.done_when
    absent = [glob for glob in done.makes if not any(home.glob(glob))]
    if absent:
        return f"exited 0 without {', '.join(absent)}"
    said = _Said(done, output)
    counts_zero = done.exit_zero or not (profile.checkpoints or done.printed)
    if said.end or (counts_zero and not said.early):
        return None
    if counts_zero:
        return f"exited 0, and said: {said.early}"
    if not profile.checkpoints:
        return f"exited 0 and never said {' or '.join(done.printed)}"
    number, checkpoint = outsiders.newest(home, profile.checkpoints)
    if checkpoint is None:
        return f"exited 0 without a checkpoint {profile.checkpoints[0]}"
    state = outsiders.json_in(checkpoint / done.state) if done.state else {}
    if state is None:
        return f"exited 0, and its newest checkpoint {checkpoint.name} has no readable {done.state}"
    reached = outsiders.number_in(home / done.latest) if done.latest else int(state.get(done.step, number))
    return _too_early(done, state, reached, total, epochs, said)


def _too_early(
    done: Done, state: Mapping[str, Any], reached: int, total: int | None, epochs: int | None, said: _Said
) -> str | None:
    total = total if total is not None else state.get(done.total, said.total())
    if total is None:
        return f"exited 0 at step {reached}, and said: {said.early}" if said.early else None
    epoch = next((int(state[key]) for key in done.epoch if key in state), -1)
    over = epochs is not None and not said.early and epoch + 1 >= epochs
    if reached >= total or over:
        return None
    return f"exited 0 at step {reached} of {total}" + (f": {said.early}" if said.early else "")


class _Said:
    """What an attempt printed: its beginning, where a program says what it is going to do, and its last words."""

    def __init__(self, done: Done, output: Path) -> None:
        self.done = done
        self.output = output
        wanted = done.printed or done.unless_printed
        tail = files.read_tail(output, 1 << 20).decode(errors="replace") if wanted else ""
        self.early = next((words for words in done.unless_printed if words in tail), "")
        self.end = next((words for words in done.printed if words in tail), "")

    def total(self) -> int | None:
        """The number of steps, as it printed it."""
        if not self.done.total_printed:
            return None
        try:
            with open(self.output, "rb") as file:
                head = file.read(BEGINNING).decode(errors="replace")
        except FileNotFoundError:
            return None
        found = re.search(self.done.total_printed, head)
        return int(found[1]) if found and found[1].isdigit() else None
