"""Keeps what looks like a secret out of what is sent to others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
SECRETS = {"token", "secret", "password", "passwd", "passphrase", "credential", "credentials", "apikey", "auth"}
KEYS = {"api", "access", "private", "secret"}
OF_A_MODEL = {"per", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "image", "stop", "end", "start", "special"}
HIDDEN = "(not sent)"


def redact(value: Any) -> Any:
    """`value` without what stands under, behind or after a name that looks secret: `{"api_key": x}`, `--token x`,
    `HF_TOKEN=x`.
    """
    if isinstance(value, Mapping):
        return {name: HIDDEN if _is_secret(str(name)) else redact(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        before = [None, *value[:-1]] if value else []
        return [HIDDEN if _is_secret_flag(last) else redact(inner) for last, inner in zip(before, value, strict=True)]
    if isinstance(value, str):
        name, equals, _ = value.partition("=")
        return f"{name}={HIDDEN}" if equals and _is_secret(name) else value
    return value


def _is_secret(name: str) -> bool:
    """By its last word: `hf_token` and `api_key` are, `max_tokens`, `token_level` and `eos_token` are not."""
    *before, last = [word.lower() for word in WORDS.findall(name)] or [""]
    if last == "key":
        return bool(before) and before[-1] in KEYS
    return last in SECRETS and not (before and before[-1] in OF_A_MODEL)


def _is_secret_flag(text: Any) -> bool:
    return isinstance(text, str) and text.startswith("-") and "=" not in text and _is_secret(text)
