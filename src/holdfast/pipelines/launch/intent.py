"""What one point is: its config with everything merged in, what of it counts, and what it needs.

The config's interpolations stay as they are written: `${oc.env:...}` must not put a secret into a stage, and what
`${cluster.num_nodes}` comes to is no part of what the work is.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import config
from holdfast.core.errors import ConfigError
from holdfast.stages import profile as profiles
from holdfast.stages.profile import MISSING, Profile, find
from holdfast.sweeps.space import Point
from holdfast.sweeps.tokens import override_text


@dataclass(frozen=True)
class Base:
    """The config before any override. `content` is None without one; `reads` are its files and their sha256."""

    path: str | None
    content: dict[str, Any] | None
    reads: Mapping[str, str]


@dataclass(frozen=True)
class Intent:
    """One point: `overrides` are its swept values as tokens, `merged` the config with all tokens (None without one),
    `counted` what of it is part of the key, `set_by_user` the keys that sweep and command line set, `known` what can be
    said of the config: without one, what the tokens say.
    """

    point: Point
    overrides: tuple[tuple[str, str], ...]
    merged: dict[str, Any] | None
    counted: dict[str, Any] | None
    set_by_user: frozenset[str]
    known: Mapping[str, Any]


def read_base(path: str | None) -> Base:
    """The config file with what it inherits."""
    if path is None:
        return Base(None, None, {})
    content = config.read(Path(path))
    found = {str(source): hashlib.sha256(source.read_bytes()).hexdigest() for source in config.sources(Path(path))}
    return Base(path, content, found)


def is_override(token: str) -> bool:
    return not token.startswith("-") and ("=" in token or token.startswith(("+", "~")))


def intent(base: Base, point: Point, tokens: Iterable[str], behind: Iterable[str], profile: Profile) -> Intent:
    """One point of a sweep, or the only one; `behind` are tokens whose keys need not be in the config.

    Raises:
        ConfigError: a key that the config does not have.
    """
    unchecked = [token if token.startswith(("+", "~")) else f"++{token}" for token in behind if is_override(token)]
    typed = [*(token for token in tokens if is_override(token)), *unchecked]
    by_hand = {config.key_of(token) for token in typed}
    swept = {key: value for key, value in point.items() if config.key_of(key) not in by_hand}
    overrides = tuple((key, override_text(value)) for key, value in swept.items())
    every = frozenset(by_hand | {config.key_of(key) for key in swept})
    if base.content is None:
        swept_tokens = [f"{config.key_of(key)}={text}" for key, text in overrides]
        return Intent(swept, overrides, None, None, every, _said([*swept_tokens, *tokens, *behind]))
    merged = config.apply(base.content, [*(f"{key}={text}" for key, text in overrides), *typed])
    counted = _restored(_without(merged, profile.placement), merged, map(config.key_of, swept))
    return Intent(swept, overrides, merged, counted, every, merged)


def _said(tokens: Iterable[str]) -> dict[str, Any]:
    """The values in `key=value` tokens; what is none, or goes below another value, says nothing of a config."""
    found: dict[str, Any] = {}
    for token in (each.lstrip("+-") for each in tokens):
        if re.match(r"[A-Za-z_][\w.]*=", token):
            with contextlib.suppress(ConfigError):
                found = config.apply(found, [f"++{token}"])
    return found


def _without(content: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A config without these keys and sections; a section of which nothing is left goes, too."""
    for key in keys:
        first, _, rest = key.partition(".")
        if first not in content:
            continue
        below = content[first]
        left = _without(below, [rest]) if rest and isinstance(below, dict) else below
        if not rest or left == {}:
            content = {name: value for name, value in content.items() if name != first}
        else:
            content = {**content, first: left}
    return content


def _restored(content: dict[str, Any], whole: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """With the swept keys of what was left out: a swept key always counts."""
    for key in keys:
        value = find(whole, key)
        if value is not MISSING:
            content = config.merge(content, _nested(key.split("."), value))
    return content


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def number_at(content: Mapping[str, Any], keys: Iterable[str], flag: str = "", unset: int | None = None) -> int | None:
    """The whole number at the first of `keys` that a config has, None where it has none of them, or null, or `unset`.

    Raises:
        ConfigError: it is something else.
    """
    for key in keys:
        value = find(content, key)
        if isinstance(value, str) and "${" in value:
            value = find(config.resolve(dict(content), key), key)
        if value is MISSING or value is None or (value == unset and type(value) is int):
            continue
        if type(value) is not int or value < 0:
            raise ConfigError(
                f"{key} is {value!r}, expected a whole number", f"set it: {key}=1" + (f", or {flag}" if flag else "")
            )
        return value
    return None


def choose_profile(name: str | None, base: Base) -> Profile:
    """The profile that was named, otherwise the one that the config is recognised by."""
    if name:
        return profiles.load(name)
    return profiles.recognise(base.content or {})
