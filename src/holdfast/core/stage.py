"""A stage is a frozen description of work; its key hashes exactly that description.

What does not change the result is not here: nodes, partition, ports, labels, code revision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from holdfast.core.errors import ConfigError


@dataclass(frozen=True)
class Ref:
    """A stage's artifact, or with `path` an artifact inside it (one checkpoint of a run)."""

    key: str
    path: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"key": self.key, "path": self.path} if self.path else {"key": self.key}


@dataclass(frozen=True)
class Stage:
    """kind, version, params, inputs: the whole intent, and nothing else."""

    kind: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Ref] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """sha256 of the canonical form, 64 hex digits."""
        return hashlib.sha256(canonical(self.as_dict())).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "version": self.version,
            "params": self.params,
            "inputs": {name: ref.as_dict() for name, ref in self.inputs.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Stage:
        inputs = {name: Ref(**ref) for name, ref in content["inputs"].items()}
        return cls(content["kind"], content["version"], content["params"], inputs)


def canonical(value: Any) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, shortest float notation; NaN and infinities have no
    place.

    Raises:
        ConfigError: the value holds something that JSON cannot say.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"params cannot be part of a stage's identity: {error}", "use numbers, strings, lists and mappings"
        ) from None


def short(key: str) -> str:
    """A key as people read and type it."""
    return key[:12]
