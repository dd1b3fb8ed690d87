"""What a launched program is told beside its own config: where to write, its name, whether W&B is on, where to go on.

What the user set, in a sweep or on the command line, wins: those keys are not injected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.core.errors import ConfigError
from holdfast.execute.outsiders import CHECKPOINT
from holdfast.pipelines.launch.intent import Intent
from holdfast.stages.profile import MISSING, Profile, find

WANDB = "wandb"


def config_tokens(profile: Profile, path: str | None) -> list[str]:
    """How the program is told its config."""
    if path is None:
        return []
    words = {"path": path, "directory": str(Path(path).parent), "stem": Path(path).stem}
    return [_filled(profile, "config", template, words) for template in profile.config]


def tokens(profile: Profile, found: Intent, words: Mapping[str, str], *, wandb_on: bool) -> list[str]:
    """Overrides for the keys that its config has, or that it is known to have."""
    told = {**dict(_injected(profile, found, words)), **_reporters(profile, found.known, on=wandb_on)}
    if profile.resume:
        told[profile.resume] = CHECKPOINT
    return [profile.override.format(key=key, value=value) for key, value in told.items() if not _by_user(found, key)]


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
