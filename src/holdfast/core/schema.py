"""What people write for a stage or a setting: frozen, strict, unknown keys refused with the nearest known one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.core.errors import ConfigError, unknown_key


class Schema(BaseModel):
    """Base of everything that a person fills in. Nothing is coerced: what you wrote is what you read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Written = TypeVar("Written", bound=Schema)


def validate(schema: type[Written], values: Mapping[str, Any], where: str) -> Written:
    """`values` as a `schema`; `where` names the thing in the message.

    Raises:
        ConfigError: which key, its value, what was expected, and the nearest known key.
    """
    try:
        return schema.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _explain(error, where, list(schema.model_fields)) from None


def _explain(error: ValidationError, where: str, known: list[str]) -> ConfigError:
    # A misspelt key is reported before the required one that it was meant to be.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"])) or "params"
    if first["type"] == "extra_forbidden":
        return unknown_key(key, known, where)
    if first["type"] == "missing":
        return ConfigError(f"{where} needs {key}, which is not given", f"add `{key}: ...`")
    return ConfigError(f"{where}: {key} is {first['input']!r}: {first['msg']}", f"correct `{key}`")
