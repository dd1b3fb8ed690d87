"""Reads the YAML that people write: inheritance as in NeMo RL's configs, dotted overrides, numbers as numbers.

The dialect is OmegaConf's: `1e-6` is a number, `${a.b}` interpolates. OmegaConf itself is imported only where there is
something to interpolate.

    defaults: base.yaml          # or a list; relative to this file, depth first, later ones win
    optim:
      _override_: true           # replaces the inherited section instead of merging into it
      lr: 1e-6
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.core import near
from holdfast.core.errors import ConfigError, unknown_key

DEFAULTS = "defaults"
REPLACES = "_override_"
LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
"""What ends a line in YAML 1.1."""
SAVED = ("root", "slurm")
"""What a saved config may hold."""


def load(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config in `path`, inherited, overridden and resolved, as plain mappings, lists and values.

    Raises:
        ConfigError: unreadable, not a mapping, a circle of defaults, a bad override, or an interpolation without a
            target.
    """
    return resolve(apply(read(path), overrides), str(path))


def read(path: Path, trail: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML file with its `defaults:` merged in, interpolations unresolved."""
    location = path.resolve()
    if location in trail:
        raise ConfigError(
            f"defaults go in a circle: {' -> '.join(each.name for each in (*trail, location))}", f"edit {path}"
        )
    content = _read_file(path)
    parents = content.pop(DEFAULTS, [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise ConfigError(f"defaults of {path} are {parents!r}, expected a path or a list of paths", f"edit {path}")
    merged: dict[str, Any] = {}
    for parent in parents:
        merged = merge(merged, read(location.parent / parent, (*trail, location)))
    return merge(merged, content)


def shipped(package: str, name: str) -> dict[str, Any]:
    """A YAML file that lies in one of our packages, interpolations unresolved."""
    from importlib import resources

    with resources.as_file(resources.files(package) / name) as path:
        return read(path)


def sources(path: Path) -> list[Path]:
    """The file and all that it inherits from, each once."""
    content = _read_file(path)
    parents = content.get(DEFAULTS, [])
    inherited = [path.resolve().parent / each for each in ([parents] if isinstance(parents, str) else parents)]
    return list(dict.fromkeys([path, *(source for parent in inherited for source in sources(parent))]))


def _read_file(path: Path) -> dict[str, Any]:
    from yaml import YAMLError

    from holdfast.core import yaml_text

    try:
        content = yaml_text.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config at {path}", near.yaml_hint(path)) from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"config cannot be read: {path}: {_one_line(error)}", f"edit {path}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"config is not a mapping: {path} holds a {type(content).__name__}", "write `key: value` lines"
        )
    return {str(key): value for key, value in content.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` over `base`, section by section; a section marked `_override_: true` replaces its base."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if not isinstance(value, dict):
            merged[key] = value
        elif value.get(REPLACES) is True or not isinstance(below, dict):
            merged[key] = _without_marker(value)
        else:
            merged[key] = merge(below, value)
    return merged


def _without_marker(section: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in section.items() if key != REPLACES}
    return {key: _without_marker(value) if isinstance(value, dict) else value for key, value in kept.items()}


def apply(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=1` sets a key that is there, `+a.b=1` adds one, `++a.b=1` does either, `~a.b` takes one out."""
    for token in overrides:
        config = _apply_one(config, token)
    return config


def key_of(token: str) -> str:
    """The dotted key that an override is about."""
    return token.partition("=")[0].lstrip("+~")


def _apply_one(config: dict[str, Any], token: str) -> dict[str, Any]:
    name, sign, text = token.partition("=")
    if name.startswith("~"):
        return _without(config, name[1:].split("."), token)
    if not sign:
        raise ConfigError(f"override `{token}` has no `=`", "write key=value")
    bare = name.lstrip("+")
    keys = bare.split(".")
    if not name.startswith("++"):
        _check_presence(config, keys, token, wanted=not name.startswith("+"))
    return _with(config, keys, value_of(text))


def _check_presence(config: dict[str, Any], keys: list[str], token: str, *, wanted: bool) -> None:
    section: Any = config
    for depth, key in enumerate(keys):
        if not isinstance(section, dict) or key not in section:
            if wanted:
                known = list(section) if isinstance(section, dict) else []
                error = unknown_key(".".join(keys[: depth + 1]), known, "config")
                raise ConfigError(str(error), f"{error.hint} (to add a new key: +{token})")
            return
        section = section[key]
    if not wanted:
        raise ConfigError(
            f"`{'.'.join(keys)}` is already in the config, with the value {section!r}", f"write ++{token.lstrip('+')}"
        )


def _with(config: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    if len(keys) == 1:
        return {**config, keys[0]: value}
    return {**config, keys[0]: _with(_section(config, keys), keys[1:], value)}


def _section(config: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    below = config.get(keys[0])
    if below is not None and not isinstance(below, dict):
        raise ConfigError(
            f"config has no `{'.'.join(keys)}`: `{keys[0]}` is {below!r}, not a section",
            f"to replace it: {keys[0]}=...",
        )
    return below or {}


def _without(config: dict[str, Any], keys: list[str], token: str) -> dict[str, Any]:
    if keys[0] not in config:
        error = unknown_key(keys[0], list(config), "config")
        raise ConfigError(f"{error}, so {token} takes nothing out", error.hint)
    if len(keys) == 1:
        return {key: value for key, value in config.items() if key != keys[0]}
    return {**config, keys[0]: _without(_section(config, keys), keys[1:], token)}


def value_of(text: str) -> Any:
    """An override's value read as YAML: `1e-6` is a number, `true` a boolean, `[1, 2]` a list, the rest a string."""
    from yaml import YAMLError

    from holdfast.core import yaml_text

    # Nobody types a comment into an override, and what stands behind a line's end would be lost.
    try:
        if LINE_BREAK.search(text) or yaml_text.has_comment(f"value: {text}"):
            return text
        return yaml_text.parse(f"value: {text}")["value"]
    except YAMLError:
        return text


def resolve(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The config with its `${...}` filled in."""
    if not _interpolates(config):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"config cannot be resolved: {where}: {_one_line(error)}",
            f"edit {where} (what a shell is to replace is written `$NAME`, or `\\${{NAME}}`)",
        ) from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _interpolates(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_interpolates(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_interpolates(inner) for inner in value)
    return isinstance(value, str) and "${" in value


def settings() -> dict[str, Any]:
    """The saved config: the user's, with `./holdfast.yaml` over it.

    Raises:
        ConfigError: one of them cannot be read, or has a section that nothing reads.
    """
    import os

    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "holdfast" / "config.yaml"
    merged: dict[str, Any] = {}
    for path in (user, Path("holdfast.yaml")):
        if path.is_file():
            found = read(path)
            for key in found:
                if key not in SAVED:
                    raise unknown_key(str(key), SAVED, str(path))
            merged = merge(merged, found)
    return merged
