"""What a launched program is told beside its own config: where to write, what it is called, whether W&B is on.

What the user set, in a sweep or on the command line, wins: those keys are not injected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.core.errors import ConfigError
from holdfast.pipelines.launch.intent import Intent, is_override
from holdfast.stages.profile import MISSING, Profile, find

WANDB = "wandb"
PLAIN = "{key}={value}"


def config_tokens(profile: Profile, path: str | None) -> list[str]:
    """How the program is told its config."""
    if path is None:
        return []
    words = {"path": path, "directory": str(Path(path).parent), "stem": Path(path).stem}
    return [_filled(profile, "config", template, words) for template in profile.config]


def tokens(profile: Profile, found: Intent, words: Mapping[str, str], *, wandb_on: bool) -> list[str]:
    """Overrides for the keys that its config has, or that it is known to have."""
    told = {**dict(_injected(profile, found, words)), **_reporters(profile, found.known, on=wandb_on)}
    return [profile.override.format(key=key, value=value) for key, value in told.items() if not _by_user(found, key)]


def forwarded(profile: Profile, typed: Iterable[str]) -> list[str]:
    """What the user typed, as it was typed; `key=value` in the form that the program takes, where that is another.

    Raises:
        ConfigError: a key is to be taken out, which such a program has no word for.
    """
    return [
        _forwarded(profile, token) if profile.override != PLAIN and is_override(token) else token for token in typed
    ]


def _forwarded(profile: Profile, token: str) -> str:
    key, sign, value = token.lstrip("+").partition("=")
    if not sign or key.startswith("~"):
        raise ConfigError(
            f"`{token}` cannot be said to a program of profile {profile.name}",
            f"it takes {profile.override.format(key='key', value='value')}; to pass words on as they are: -- ...",
        )
    return profile.override.format(key=key, value=value)


def _by_user(found: Intent, key: str) -> bool:
    return any(each == key or key.startswith(f"{each}.") for each in found.set_by_user)


def _injected(profile: Profile, found: Intent, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, template in profile.inject.items():
        value = _filled(profile, f"inject.{key}", template, words)
        now = find(found.known, key)
        if value and (now is not MISSING or key in profile.always) and str(now) != value:
            yield key, value


def _filled(profile: Profile, where: str, template: str, words: Mapping[str, str]) -> str:
    try:
        return template.format(**words)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"profile {profile.name}: {where} is {template!r}, which names {error}",
            f"words in braces: {', '.join(words)}",
        ) from None


def _reporters(profile: Profile, known: Mapping[str, Any], *, on: bool) -> dict[str, str]:
    """W&B is added to what reports to nothing, and taken out where it is off; other reporters stay."""
    key = profile.reporters.key
    value = find(known, key) if key else None
    if not key or (value is MISSING and not (on and profile.reporters.add)):
        return {}
    if value is MISSING:
        return {key: profile.reporters.add}
    named = [str(each) for each in (value if isinstance(value, list) else [value])]
    if on or WANDB not in named:
        return {}
    left = [each for each in named if each != WANDB]
    return {key: f"[{','.join(left)}]" if len(left) > 1 else (left or [profile.reporters.nothing])[0]}
