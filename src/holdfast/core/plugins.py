"""Finds the classes that plans name: ours by a short name, anybody's by `package.module:Class`."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import TypeVar

from holdfast.core.errors import ConfigError

Base = TypeVar("Base")


def load_class(name: str, shipped: Mapping[str, str], base: type[Base], what: str) -> type[Base]:
    """The class of this name, derived from `base`. Modules are looked for in the working directory, too, but last.

    Raises:
        ConfigError: there is none, or it is something else.
    """
    module, _, attribute = shipped.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, shipped, 1)
        known = f"{what}s: {', '.join(shipped)}, or your own as package.module:Class"
        raise ConfigError(f"there is no {what} `{name}`", f"did you mean `{near[0]}`?" if near else known)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{what} `{name}` cannot be imported: {error}", "is its package on PYTHONPATH?") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        wanted = f"{base.__module__}.{base.__qualname__}"
        raise ConfigError(f"{what} `{name}` is {found!r}, expected a class derived from {wanted}", "see examples/")
    return found
